"""Reference generators: one model per file."""
