"""Data sets: one file per layout. Each lists films and decodes one; ``loading`` does the rest."""
