"""Labels: everything that people said, behind one name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fieldmark.labels.points import Points
from fieldmark.labels.records import ImportReport
from fieldmark.store import Store

if TYPE_CHECKING:
    from fieldmark.collection import Collection


class Labels(Points):
    """The classes, answers, strokes and points of a project. Each change is durable when its call returns."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def import_folder(
        self,
        path: Path,
        kind: str,
        *,
        author: str,
        collection: Collection,
        label_offset: int | None = None,
        ignore: int | None = None,
    ) -> ImportReport:
        """Read labels from files into the project, all of them or none.

        Args:
            path: A folder of marker files, label maps or scribble images, paired with the images by their names; or
                one such file; or a CSV file of answers or points.
            kind: `markers`, `masks`, `scribbles`, `answers` or `points`.
            author: Who imports.
            collection: The project's images.
            label_offset: Added to every label before it is taken as the place of a class; None to tell from the files.
            ignore: The value of label maps that means unknown; None for 0.

        Raises:
            BadInput: An unknown kind, or no file that belongs to an image.
            BadFile: One file is damaged or does not fit; or several, all named. Nothing was written.
        """
        from fieldmark.labels.exchange.reading import import_folder

        return import_folder(self, Path(path), kind, author, collection, label_offset, ignore)

    def export_folder(self, path: Path, kind: str, collection: Collection, *, overwrite: bool = False) -> list[Path]:
        """Write the labels of all images as files that `import_folder` reads; the files written.

        Args:
            path: A folder; for answers and points also a file that ends in `.csv`.
            kind: `markers`, `masks`, `scribbles`, `answers` or `points`.
            collection: The project's images.
            overwrite: Replace files that are there.

        Raises:
            BadInput: An unknown kind, a folder that holds images of the project, or files that are there.
        """
        from fieldmark.labels.exchange.writing import export_folder

        return export_folder(self, Path(path), kind, collection, overwrite)
