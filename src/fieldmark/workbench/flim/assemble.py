"""From folders and files to a project of our own below the outputs: what fits there is fitted as everywhere."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldmark.collection import ImageRecord
from fieldmark.collection.catalog import uri_of
from fieldmark.collection.importers import Plan, PlannedImage
from fieldmark.collection.lids import MOST_CLASSES, LidsImage
from fieldmark.collection.naming import ENDINGS, stem_of
from fieldmark.core.files import write_atomic
from fieldmark.core.fingerprint import file_hash, fingerprint
from fieldmark.errors import BadFile, BadInput, NothingLabelled
from fieldmark.images import find_images
from fieldmark.labels.exchange.markers import read_markers
from fieldmark.labels.exchange.masks import read_map
from fieldmark.labels.exchange.pairing import pair
from fieldmark.labels.exchange.tables import write_rows
from fieldmark.workbench.bench import Workbench
from fieldmark.workbench.loose.images import require_whole

HIDDEN = ".fieldmark"
_READY = "assembled"


@dataclass(frozen=True, slots=True)
class Teaching:
    """What a model is to learn from.

    Args:
        markers: Folder of marker files, with or without their images; None for none.
        dataset: The data set's images, in which images of markers are looked up; empty for none.
        split: The images whose class is taught.
        classes: How many classes there are at least.
        label_offset: Added to every label of the markers; None to tell from the files.
    """

    markers: Path | None
    dataset: Sequence[LidsImage]
    split: Sequence[LidsImage]
    classes: int = 0
    label_offset: int | None = None

    def fingerprint(self) -> str:
        """The hash of all that is taught: file names, sizes and times of images, bytes of markers."""
        images = [[one.name, one.klass, *_facts(one.path)] for one in self.split]
        markers = "" if self.markers is None else file_hash(self.markers)
        offset = [] if self.label_offset is None else [self.label_offset]
        return fingerprint([images, markers, self.classes, *offset])


def assemble(folder: Path, teaching: Teaching) -> tuple[Workbench, list[str]]:
    """The project in `folder` with the images, markers and answers; made anew unless it was finished before.

    Returns:
        The open project, and what is worth telling.

    Raises:
        BadFile: A marker file is damaged, of another image, or marks pixels outside of it; an image cannot be read.
        BadInput: There is no marker file, none marks a pixel, or two files are about one image.
    """
    if (folder / _READY).is_file():
        return Workbench.open(folder), []
    shutil.rmtree(folder, ignore_errors=True)
    beside, marked = ([], []) if teaching.markers is None else _marked(teaching.markers, teaching.dataset)
    bench = Workbench.init(folder, name="flim")
    try:
        notes = _fill(bench, teaching, beside, marked)
    except BaseException:
        bench.close()
        raise
    write_atomic(folder / _READY, b"")
    return bench, notes


def _fill(bench: Workbench, teaching: Teaching, beside: list[Path], marked: list[LidsImage]) -> list[str]:
    chosen = {one.name: one.path for one in (*marked, *teaching.split)}
    copies = {path: chosen[path.name] for path in beside if _is_copy(path, chosen.get(path.name))}
    names = {path: path.name for path in chosen.values()}
    if teaching.markers is not None:
        names |= {copies.get(path, path): name for path, name in _names_below(teaching.markers, beside).items()}
    # a model must not learn from less than it was told
    require_whole(bench.collection.add_images(list(names), plan_of=lambda path: _plan(path, names[path])))
    _add_classes(bench, teaching)
    notes = []
    if teaching.markers is not None:
        report = bench.import_labels(teaching.markers, "markers", label_offset=teaching.label_offset)
        if not report.strokes:
            raise NothingLabelled(
                f"{teaching.markers}: its files mark no pixel, and filters are learned from marked ones. Draw some."
            )
        notes += report.notes + [f"{name} was left out: {why}." for name, why in report.left_out]
    if teaching.split:
        _answer(bench, teaching.split)
    return notes


def _plan(path: Path, name: str) -> Plan:
    return Plan([PlannedImage(path, str(path), name)], [])


def _names_below(folder: Path, images: list[Path]) -> dict[Path, str]:
    """Names of images beside markers: with their folders below `folder` where two have one name."""
    if len({path.name for path in images}) == len(images):
        return {path: path.name for path in images}
    return {path: path.relative_to(folder).as_posix() for path in images}


def _is_copy(path: Path, original: Path | None) -> bool:
    """Whether an image beside the markers is one of the data set, which counts once."""
    return original is not None and file_hash(path) == file_hash(original)


def _add_classes(bench: Workbench, teaching: Teaching) -> None:
    """Classes 1, 2, ... as many as the split or the markers name: in these data sets, classes are numbers."""
    count = max([teaching.classes, *(one.klass for one in teaching.split)])
    if count > MOST_CLASSES:
        raise BadInput(
            f"-nc {count}: there are {MOST_CLASSES} classes at most. Give the number of those that you have."
        )
    if teaching.markers is not None:
        count = max(count, _highest_label(bench, teaching.markers, teaching.label_offset))
    for number in range(1, count + 1):
        bench.labels.add_class(str(number))


def _highest_label(bench: Workbench, markers: Path, offset: int | None) -> int:
    """The class number of the highest label in the marker files; text files that begin at 0 are counted from 1.

    Raises BadFile, which names the file, for a label that is no number of a class.
    """
    found: dict[int, str] = {0: ""}
    texts: set[int] = set()
    for one in pair(markers, "markers", bench.collection.all()).pairs:
        if one.path.suffix.lower() == ".txt":
            texts.update(own := np.unique(read_markers(one.path, one.shown).labels).tolist())
            found |= dict.fromkeys(own, one.shown)
        else:
            for _, _, plane in read_map(one.path, one.image.shape, one.plane, one.shown):
                found |= dict.fromkeys(np.unique(plane).tolist(), one.shown)
    highest = max(found)
    number = highest + (int(0 in texts) if offset is None else offset)
    if number > MOST_CLASSES:
        raise BadFile(
            found[highest],
            f"it holds the label {highest}, and classes are numbered from 1 to {MOST_CLASSES}. Number them anew, as "
            "the images' names do, or say what is added to labels: --label-offset.",
        )
    return number


def _answer(bench: Workbench, split: Sequence[LidsImage]) -> None:
    by_place = {record.uri: record for record in bench.collection.all()}
    rows = [(by_place[uri_of(one.path)].name, str(one.klass), "yes") for one in split]
    table = bench.project.folder / "answers.csv"
    write_atomic(table, write_rows(("image", "class", "value"), rows))
    bench.import_labels(table, "answers")


def _marked(markers: Path, dataset: Sequence[LidsImage]) -> tuple[list[Path], list[LidsImage]]:
    """The images beside the markers, and those of the data set that marker files are named after.

    Raises:
        NothingLabelled: No marker file has the name of an image.
    """
    beside = _images_beside(markers)
    known = {path.name for path in beside}
    images = [LidsImage(path, name, 0) for path, name in _names_below(markers, beside).items()]
    images += [one for one in dataset if one.name not in known]
    records = [_record(one, number) for number, one in enumerate(images)]
    found = pair(markers, "markers", records)
    if not found.pairs and not found.bad:
        raise NothingLabelled(
            f"{markers}: no marker file has the name of an image, there or in the data set (-d). "
            "Name each like its image: NAME.txt or NAME-seeds.txt."
        )
    places = sorted({one.image.id for one in found.pairs})
    return beside, [images[place] for place in places if place >= len(beside)]


def _images_beside(markers: Path) -> list[Path]:
    """The images in a folder of markers; a folder of nothing but pictures without endings holds marker pictures."""
    pictures = [path for path, _ in find_images(markers).images]
    plain = [path for path in pictures if not stem_of(path.name).endswith(ENDINGS["markers"])]
    has_markers = len(plain) < len(pictures) or any(markers.rglob("*.txt"))
    return plain if has_markers else []


def _record(one: LidsImage, number: int) -> ImageRecord:
    """As much of an image as pairing by name looks at."""
    return ImageRecord(
        uri=uri_of(one.path), name=one.name, content_hash="", shape=(1,) * 5, dtype="", axes="", id=number
    )


def _facts(path: Path) -> list[int]:
    try:
        facts = path.stat()
    except OSError as error:
        raise BadFile(path, f"it cannot be reached ({error.strerror}). Check the name.") from error
    return [facts.st_size, facts.st_mtime_ns]
