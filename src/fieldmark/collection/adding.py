"""Add images: plan, read each file once, tell new from known, moved and doubled, write all in one transaction."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fieldmark.collection.catalog import Collection, columns_text, uri_of
from fieldmark.collection.importers import Plan, PlannedImage, plan
from fieldmark.collection.records import AddReport, ImageRecord, MovedImage
from fieldmark.core.events import Event
from fieldmark.core.fingerprint import file_hash
from fieldmark.errors import BadFile, BadInput
from fieldmark.images import decode_once, find_images, open_image
from fieldmark.store.tables import images

if TYPE_CHECKING:
    from fieldmark.store.database import Change

Watch = Callable[[Event], None]
PlanOf = Callable[[Path], Plan]
Along = Callable[["Change", dict[str, PlannedImage]], None]
"""What else is written when images are added: the change, and by path what was planned of each image that is there."""


def add_images(
    collection: Collection,
    paths: list[Path],
    layout: str,
    group_by: str | None,
    max_bytes: int | None,
    author: str,
    watch: Watch,
    along: Along | None = None,
    plan_of: PlanOf | None = None,
) -> AddReport:
    """See `Collection.add_images`."""
    group_of = _grouping(group_by)
    plans = [plan_of(path) if plan_of is not None else plan(path, layout) for path in paths]
    planned = [image for each in plans for image in each.images]
    report = AddReport(left_out=[item for each in plans for item in each.left_out])
    report.notes.extend(note for each in plans for note in each.notes)
    sorter = _Sorter(collection, report)
    for number, image in enumerate(planned, start=1):
        sorter.take(image, image.group or group_of(image.name), max_bytes)
        watch(Event("read images", number, len(planned), message=image.shown))
    return sorter.write(author, along)


def find_moved(collection: Collection, folder: Path) -> list[MovedImage]:
    """See `Collection.find_moved`."""
    lost = {image.content_hash: image for image in collection.all(include_excluded=True) if not _exists(image.uri)}
    if not lost:
        return []
    places = {uri_of(place) for place, _ in find_images(folder).images}
    found: list[MovedImage] = []
    for uri in sorted(places - {image.uri for image in collection.all(include_excluded=True)}):
        image = lost.pop(_hash(uri), None)
        if image is not None:
            found.append(MovedImage(image, uri))
    return found


class _Sorter:
    """Tells what each file is to the project, and writes the outcome."""

    def __init__(self, collection: Collection, report: AddReport) -> None:
        self.collection = collection
        self.report = report
        known = collection.all(include_excluded=True)
        self.by_uri = {image.uri: image for image in known}
        self.by_hash: dict[str, list[ImageRecord]] = {}
        self.names = {image.name for image in known}
        self.planned: dict[str, PlannedImage] = {}
        for image in known:
            self.by_hash.setdefault(image.content_hash, []).append(image)

    def take(self, planned: PlannedImage, group: str, max_bytes: int | None) -> None:
        """Read one file and decide what it is; a file that cannot be read is left out with the reason."""
        try:
            record = _read(planned, max_bytes)
        except BadFile as error:
            self.report.left_out.append((planned.shown, error.problem))
            return
        except OSError as error:
            self.report.left_out.append((planned.shown, f"it cannot be read ({error.strerror})."))
            return
        self._decide(replace(record, group=group, split=planned.split, columns=planned.columns), planned)

    def write(self, author: str, along: Along | None) -> AddReport:
        """Write what is new and what moved, and what goes along with it, in one transaction."""
        report = self.report
        with self.collection.store.transaction(author, "add images") as change:
            for moved in report.moved:
                change.update(images, {"id": moved.image.id}, {"uri": moved.uri})
            for described in report.described:
                change.update(images, {"id": described.id}, {"columns": columns_text(described.columns)})
            ids = self.collection.add(report.added, author=author)
            change.summary = f"add {len(ids)} images" + (f", find {len(report.moved)} again" if report.moved else "")
            if along is not None:
                along(change, self.planned)
        report.added[:] = [replace(record, id=number) for record, number in zip(report.added, ids, strict=True)]
        return report

    def _decide(self, record: ImageRecord, planned: PlannedImage) -> None:
        self.planned[record.uri] = planned
        at_place = self.by_uri.get(record.uri)
        if at_place is not None:
            self._met_again(at_place, record, planned)
            return
        twins = self.by_hash.setdefault(record.content_hash, [])
        gone = next((twin for twin in twins if twin.id and not _exists(twin.uri)), None)
        if gone is not None:
            self.report.moved.append(MovedImage(gone, record.uri))
            here = replace(gone, uri=record.uri)
            self._describe(here, planned)
            twins[twins.index(gone)] = here
            self.by_uri[record.uri] = here
            return
        record = replace(record, name=self._own_name(record))
        if twins:
            self.report.duplicates.append((record.name, twins[0].name))
        twins.append(record)
        self.by_uri[record.uri] = record
        self.names.add(record.name)
        self.report.added.append(record)

    def _met_again(self, known: ImageRecord, record: ImageRecord, planned: PlannedImage) -> None:
        if known.content_hash == record.content_hash:
            self.report.known.append(planned.shown)
            self._describe(known, planned)
            return
        reason = (
            f"its content has changed since it was added as {known.name!r}, and the labels belong to the old content. "
            "Put the old file back, or add the new one under another name."
        )
        del self.planned[record.uri]
        self.report.left_out.append((planned.shown, reason))

    def _describe(self, known: ImageRecord, planned: PlannedImage) -> None:
        """Take over what a table says anew of an image that is there."""
        columns = {**known.columns, **planned.columns}
        if columns != known.columns:
            self.report.described.append(replace(known, columns=columns))

    def _own_name(self, record: ImageRecord) -> str:
        """The record's name, made unique with as much of its folder as that takes."""
        return next(name for name in _names(record) if name not in self.names)


def _names(record: ImageRecord) -> Iterator[str]:
    yield record.name
    parts = PurePosixPath(record.uri).parts[1:]
    for depth in range(len(PurePosixPath(record.name).parts) + 1, len(parts) + 1):
        yield "/".join(parts[-depth:])
    for number in range(2, 1 << 31):
        yield f"{record.name} ({number})"


def _read(planned: PlannedImage, max_bytes: int | None) -> ImageRecord:
    """Open a file, decode every pixel once, and say what it is.

    Raises:
        BadFile: It is damaged, too large, or no image.
    """
    with open_image(planned.path, max_bytes=max_bytes, shown=planned.shown) as source:
        decode_once(source)
        return ImageRecord(
            uri=uri_of(planned.path),
            name=planned.name,
            content_hash=file_hash(planned.path),
            shape=source.shape,
            dtype=str(source.dtype),
            axes=source.axes,
            pixel_size=source.pixel_size,
        )


def _grouping(group_by: str | None) -> Callable[[str], str]:
    """From an image's name to its group."""
    if group_by is None:
        return lambda _name: ""
    if group_by == "folder":
        return lambda name: PurePosixPath(name).parent.as_posix().removeprefix(".")
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise BadInput(
            f"group_by {group_by!r} is no regular expression ({error}); use `folder` or `(...)_`."
        ) from error
    if pattern.groups != 1:
        raise BadInput(f"group_by {group_by!r} has {pattern.groups} groups in parentheses; it needs one.")
    return lambda name: found[1] or "" if (found := pattern.search(name)) else ""


def _exists(uri: str) -> bool:
    return Path(uri).exists()


def _hash(uri: str) -> str:
    try:
        return file_hash(Path(uri))
    except OSError:
        return ""
