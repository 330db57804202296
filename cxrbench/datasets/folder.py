"""Films in one folder per class, or anywhere with a CSV that names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cxrbench.contracts import Listing
from cxrbench.datasets.files import Entry, FileDataset, check_classes, image_files, list_films, read_metadata


@dataclass
class Folder(FileDataset):
    """``CLASS/*.png`` (or ``.jpg``, ``.dcm`` ...; see ``SUFFIXES``), or a CSV that names the films.

    The CSV has the columns file,label[,patient_id][,source][,view][,age][,sex][,split].

    Args:
        root: the folder of the class folders, or the folder that holds ``metadata.csv``, or a CSV file.
            File names in a CSV are relative to the CSV.
    """

    def classes(self) -> tuple[str, ...]:
        table = self._table()
        if table:
            return tuple(sorted({str(meta.label) for meta in read_metadata(table, ("file", "label"))[0].values()}))
        visible = (p for p in self.folder().iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX")))
        return tuple(sorted(path.name for path in visible))

    def listing(self) -> Listing:
        """Raises UsageError for a missing folder; DataError for an empty class or a malformed CSV."""
        root, names, table = self.folder(), self.classes(), self._table()
        refused: dict[str, str] = {}
        if table:
            rows, refused = read_metadata(table, ("file", "label"))
            label_of = {name: i for i, name in enumerate(names)}
            entries = [Entry(file, label_of[str(meta.label)], meta) for file, meta in rows.items()]
        else:
            entries = [
                Entry(f"{name}/{path.name}", label)
                for label, name in enumerate(names)
                for path in image_files(root / name)
            ]
        return check_classes(root, names, list_films(root, entries, refused))

    def folder(self) -> Path:
        path = Path(self.root).expanduser()
        if path.suffix.lower() == ".csv" and path.is_file():
            return path.parent
        return super().folder()

    def _table(self) -> Path | None:
        path = Path(self.root).expanduser()
        table = path if path.suffix.lower() == ".csv" else path / "metadata.csv"
        return table if table.is_file() else None
