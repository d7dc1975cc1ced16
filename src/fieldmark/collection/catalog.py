"""The images of a project: add, look up, group, split, exclude, find again."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Row, select

from fieldmark.collection.records import AddReport, ImageRecord, MovedImage
from fieldmark.core.axes import PixelSize
from fieldmark.core.events import Event
from fieldmark.errors import BadInput, FieldmarkError, NotFound
from fieldmark.images.find import natural_key
from fieldmark.store import Store
from fieldmark.store.tables import images as table

if TYPE_CHECKING:
    from fieldmark.collection.adding import Along, PlanOf


class Collection:
    """The catalog of a project's images."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def all(self, include_excluded: bool = False) -> list[ImageRecord]:
        """The images in natural order of their names (`cell2` before `cell10`)."""
        found = self._select() if include_excluded else self._select(table.c.excluded == "")
        return sorted(found, key=lambda image: natural_key(image.name))

    def get(self, image_id: int) -> ImageRecord:
        """The image with this id.

        Raises:
            NotFound: No image has it.
        """
        found = self._select(table.c.id == image_id)
        if not found:
            raise NotFound("image", str(image_id), [str(image.id) for image in self._select()])
        return found[0]

    def find(self, name_or_uri: str) -> ImageRecord:
        """The image with this name, or at this path.

        Raises:
            NotFound: No image has it; the message offers the nearest name.
        """
        found = self._select(table.c.name == name_or_uri) or self._select(table.c.uri == uri_of(Path(name_or_uri)))
        if not found:
            raise NotFound("image", name_or_uri, [image.name for image in self._select()])
        return found[0]

    def add(self, records: Sequence[ImageRecord], *, author: str = "") -> list[int]:
        """Add images in one transaction and give back their ids, in order.

        Raises:
            BadInput: Two have one name, or a name is already in the project.
        """
        names = [record.name for record in records]
        taken = {image.name for image in self._select()} & set(names) or _repeated(names)
        if taken:
            raise BadInput(f"The name {sorted(taken)[0]!r} is given twice; every image of a project has its own.")
        with self.store.transaction(author, "add images") as change:
            change.summary = f"add {_count(len(records))}"
            return change.insert_many(table, [_values(record) for record in records])

    def add_images(
        self,
        paths: Iterable[str | Path] | str | Path,
        *,
        layout: str = "folder",
        group_by: str | None = None,
        max_bytes: int | None = None,
        author: str = "",
        watch: Callable[[Event], None] | None = None,
        along: Along | None = None,
        plan_of: PlanOf | None = None,
    ) -> AddReport:
        r"""Add the images that folders, files, lists or tables name. Each is decoded once; bad ones are left out.

        An image whose content is known, and whose old path is gone, has moved: its path is brought up to date. One
        transaction for all.

        Args:
            paths: What to add: folders and image files, lists of paths (`layout="list"`), or tables (`layout="csv"`).
            layout: `folder`, `list`, `csv` or `lids`.
            group_by: Where an image's group comes from when no table says: `folder` for the folder that holds it, or
                a regular expression with one group that is searched in its name, such as `(\d+)_`. None for no group.
            max_bytes: Refuse images that would take more than this when decoded whole; None for the default.
            author: Who adds them.
            watch: Called after each file.
            along: Called inside the transaction, with what was planned of each image by its path.
            plan_of: Says which images a path names, in the place of `layout`.

        Raises:
            BadInput: An unknown layout, or a `group_by` that is no pattern with one group.
            BadFile: A folder, list or table that cannot be read.
        """
        from fieldmark.collection.adding import add_images

        named = [paths] if isinstance(paths, (str, Path)) else list(paths)
        return add_images(
            self,
            [Path(path) for path in named],
            layout,
            group_by,
            max_bytes,
            author,
            watch or (lambda _event: None),
            along,
            plan_of,
        )

    def exclude(self, ids: Iterable[int], why: str, *, author: str = "") -> None:
        """Leave images out, for a reason that is kept; an empty reason takes them in again."""
        words = f"exclude {{}}: {why}" if why else "take in {} again"
        self._set(ids, {"excluded": why}, author, "exclude" if why else "include", words)

    def set_group(self, ids: Iterable[int], group: str, *, author: str = "") -> None:
        """Put images into a group; images of one group are never split between training and test."""
        self._set(ids, {"group": group}, author, "group", f"put {{}} into group {group!r}")

    def set_split(self, ids: Iterable[int], split: str, *, author: str = "") -> None:
        """Put images into a split, such as `train` or `test`; empty for none."""
        self._set(ids, {"split": split}, author, "split", f"put {{}} into split {split!r}")

    def set_splits(self, splits: dict[int, str], *, author: str = "") -> None:
        """Put each image into its split, in one change."""
        with self.store.transaction(author, "split") as change:
            change.summary = f"put {_count(len(splits))} into splits {', '.join(sorted(set(splits.values())))}"
            for image_id, split in splits.items():
                change.update(table, {"id": self.get(image_id).id}, {"split": split})

    def relocate(self, image_id: int, new_uri: str | Path, *, author: str = "") -> None:
        """Say where an image is now. Its content must be the same, as the labels belong to it.

        Raises:
            NotFound: No image has this id.
            BadInput: There is no such file, or its content is another.
        """
        from fieldmark.core.fingerprint import file_hash

        image, path = self.get(image_id), Path(new_uri)
        if not path.exists():
            raise BadInput(f"{path}: there is no such file. Name the place where {image.name!r} is now.")
        if file_hash(path) != image.content_hash:
            raise BadInput(f"{path}: its content is not that of {image.name!r}. Add it as a new image instead.")
        self._set([image_id], {"uri": uri_of(path)}, author, "relocate", f"{image.name} is now {uri_of(path)}")

    def find_moved(self, folder: Path) -> list[MovedImage]:
        """Where the images whose path is gone are now, below `folder`, by their content. Changes nothing.

        Raises:
            BadFile: There is no such folder.
        """
        from fieldmark.collection.adding import find_moved

        return find_moved(self, Path(folder))

    def _select(self, *conditions: ColumnElement[bool]) -> list[ImageRecord]:
        with self.store.reading() as connection:
            return [record_of(row) for row in connection.execute(select(table).where(*conditions).order_by(table.c.id))]

    def _set(self, ids: Iterable[int], values: dict[str, str], author: str, verb: str, words: str) -> None:
        wanted = list(ids)
        with self.store.transaction(author, verb) as change:
            change.summary = words.replace("{}", _count(len(wanted)))
            for image_id in wanted:
                change.update(table, {"id": self.get(image_id).id}, dict(values))


def uri_of(path: Path) -> str:
    """A path as the catalog writes it: absolute, with forward slashes, links kept."""
    return Path(os.path.abspath(path)).as_posix()  # noqa: PTH100  (Path.resolve would follow links)


def shape_of(text: str) -> tuple[int, int, int, int, int]:
    """The shape (t, c, z, y, x) that the table keeps as text.

    Raises:
        FieldmarkError: The row is damaged.
    """
    try:
        t, c, z, y, x = (int(n) for n in text.split(","))
    except ValueError:
        raise FieldmarkError(f"An image's shape is {text!r}: the project is damaged; restore it from a copy.") from None
    return t, c, z, y, x


def record_of(row: Row[Any]) -> ImageRecord:
    """A row of the table as a record."""
    return ImageRecord(
        id=row.id,
        uri=row.uri,
        name=row.name,
        content_hash=row.content_hash,
        shape=shape_of(row.shape),
        dtype=row.dtype,
        axes=row.axes,
        pixel_size=PixelSize(row.size_z, row.size_y, row.size_x),
        group=row.group,
        split=row.split,
        excluded=row.excluded,
        columns=json.loads(row.columns or "{}"),
    )


def _values(record: ImageRecord) -> dict[str, Any]:
    return {
        "uri": record.uri,
        "name": record.name,
        "content_hash": record.content_hash,
        "shape": ",".join(str(n) for n in record.shape),
        "dtype": record.dtype,
        "axes": record.axes,
        "size_z": record.pixel_size.z,
        "size_y": record.pixel_size.y,
        "size_x": record.pixel_size.x,
        "group": record.group,
        "split": record.split,
        "excluded": record.excluded,
        "columns": columns_text(record.columns),
    }


def columns_text(columns: Mapping[str, str | None]) -> str | None:
    """Columns as the table keeps them."""
    return json.dumps(dict(columns), sort_keys=True, ensure_ascii=False) if columns else None


def _repeated(names: list[str]) -> set[str]:
    return {name for name, times in Counter(names).items() if times > 1}


def _count(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"
