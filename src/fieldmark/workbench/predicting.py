"""From a model and images to label maps: plan the files, run the worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fieldmark import __version__
from fieldmark.checkpoint import Header, header_of, write_bundle
from fieldmark.checkpoint.bundle import read_json
from fieldmark.collection.naming import Planes, pair_folder
from fieldmark.core.events import Event
from fieldmark.core.fingerprint import GONE, fingerprint
from fieldmark.errors import BadFile, BadInput, NotFound, near_miss, some
from fieldmark.images import open_image
from fieldmark.images.decode import values_in
from fieldmark.images.readers import FRAMES_SUFFIX
from fieldmark.images.writers import FORMAT_SUFFIX
from fieldmark.images.writers.planes import plane_files
from fieldmark.prepare import prepared_channels
from fieldmark.recipes.predict import FIGURE_PLANES
from fieldmark.workbench.fitting import collect_marks
from fieldmark.workbench.jobs import run_job
from fieldmark.workbench.locks import alone
from fieldmark.workbench.originals import refuse_inside, refuse_originals

if TYPE_CHECKING:
    from fieldmark.collection import ImageRecord
    from fieldmark.images import ImageSource
    from fieldmark.recipes import PredictRecipe
    from fieldmark.workbench.bench import Workbench

HIDDEN = ".fieldmark"
MOST_CHANNELS = 1 << 13
"""Of an image that a network may make."""
NOTHING: Mapping[str, Path] = MappingProxyType({})


def model_folder(bench: Workbench, name: str) -> Path:
    """The folder of a model of the project, or the model folder that was typed.

    Raises:
        NotFound: The project has no such model, and there is no such folder.
        BadFile: What was typed is there, and is no model folder.
    """
    own = bench.project.models / name
    for folder in (own, Path(name)):
        if name and _holds_model(folder):
            return folder
    known = [path.name for path in bench.models()]
    if name and _exists(Path(name)):
        text = (
            f"is no model folder (no model.json), and no model of the project has that name. {near_miss(name, known)}"
        )
        raise BadFile(name, text)
    raise NotFound("model", name, known)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _holds_model(folder: Path) -> bool:
    return _exists(folder / "model.json")


def predict(
    bench: Workbench,
    name: str,
    records: list[ImageRecord],
    out: Path,
    form: str,
    recipe: PredictRecipe,
    *,
    truth: Path | None = None,
    targets: Sequence[int] = (),
    kept: Mapping[str, Path] = NOTHING,
    gpus: Sequence[int] = (),
    drawn: bool = True,
) -> Iterator[Event]:
    """Write `out/<stem>.<ext>` for every image, sub-folders kept; one event a tile.

    A model that knows whole images only writes `out/answers.csv` instead, or `answers.json` with the form `json`.

    Args:
        bench: The project.
        name: A model of the project, or a model folder.
        records: The images.
        out: Where to write; never a folder that holds images of the project.
        form: One of `FORMAT_SUFFIX`.
        recipe: How.
        truth: A folder of what is right, by stem, to be shown in the figures.
        targets: Channels of the images themselves that are right, instead.
        kept: Where, by image name, predicted images are kept as OME-Zarr in float32 too, whatever is delivered.
        gpus: Those that the worker may see; none for all.
        drawn: Whether what somebody drew on an image counts there; else the answer is the model's own, everywhere.
    """
    folder = model_folder(bench, name)
    header = header_of(folder)
    output = output_of(header, name)
    if not records:
        raise BadInput(f"Project {bench.project.name!r} has no images to predict. Add some: fieldmark add FOLDER.")
    if gone := [record for record in records if not record.path.exists()]:
        more = f" (and {len(gone) - 1} more images)" if len(gone) > 1 else ""
        raise BadFile(gone[0].name, f"{gone[0].path}{more} {GONE}")
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file. Choose a folder with --out.")
    if output in ROWS:
        from fieldmark.workbench.answering import answer_images

        target = out / f"answers.{'json' if form == 'json' else 'csv'}"
        yield from answer_images(bench, name, records, target, accelerator=recipe.accelerator, gpus=gpus)
        return
    _require_possible(header, name, output, form, recipe)
    out = out.resolve()
    stems = unique_stems(records)
    made_from = [__version__, read_json(folder / "model.json"), recipe.model_dump(mode="json"), form]
    items = [_item(header, record, stems[record.id], out, form, recipe) for record in records]
    refuse_originals(bench, [out, *(Path(path).parent for item in items for path in item["files"])])
    refuse_inside(out, [truth] if truth is not None else [])
    _refuse_clashes(items)
    _refuse_strangers(items)
    right = _own_channels(records, targets) if targets else _truth_of(records, truth, by_plane=output == "classes")
    maps = [file for one in right.values() for file in one.files]
    codes = _truth_codes(header, maps, truth) if output == "classes" else []
    job = {
        "kind": "predict",
        "model": str(folder),
        "name": name,
        "output": output,
        "format": form,
        "recipe": recipe.model_dump(mode="json"),
        "images": items,
        "allow": list(bench.allow),
        "gpus": list(gpus),
        "lock": str(out / HIDDEN / "worker.lock"),
    }
    with alone(out / HIDDEN / "predict.lock", busy_text(out)):
        for item, record in zip(items, records, strict=True):
            own = right.get(record.id)
            item["truth"], shown = (str(own.whole), own.shown) if own is not None else (None, "")
            item["truth_planes"] = [[t, z, str(file)] for (t, z), file in own.planes.items()] if own is not None else []
            item["truth_channels"] = list(targets)
            item["truth_codes"] = codes
            item["kept"] = str(kept[record.name]) if record.name in kept and output == "image" else ""
            item["strokes"], digest = None, ""
            if output == "classes" and drawn:
                item["strokes"], digest = _strokes(bench, header, record, out / HIDDEN / "strokes" / f"{record.id}")
            item["made_from"] = fingerprint(
                [*made_from, record.content_hash, digest, *([shown, codes] if shown else [])]
            )
        yield from _about_slices(header, records)
        yield from _about_before(items)
        yield from run_job(job, out / HIDDEN / "job.json", threads=recipe.threads)


def busy_text(out: Path) -> str:
    """What is said where somebody else predicts into a folder."""
    return f"{out}: another run is writing predictions there. Wait until it has ended, or choose another --out."


ROWS = ("numbers", "image-classes", "vector")
"""Outputs that are one row of a table for each image."""


def output_of(header: Header, name: str) -> str:
    """What a model predicts by itself: `classes` of pixels, an `image`, or rows. BadInput where it gives none."""
    if "classes" in header.outputs and header.classes:
        return "classes"
    if header.outputs[:1] == ("image",):
        return "image"
    for output in ROWS:
        if output in header.outputs:
            return output
    raise BadInput(
        f"Model {name!r} gives no classes: it was fitted without labels, or without a classifier of pixels (head.kind "
        "none, as by `fieldmark flim train`). Label pixels, say head.kind=forest, and fit it again."
    )


def _require_possible(header: Header, name: str, output: str, form: str, recipe: PredictRecipe) -> None:
    """Refuse what would only fail when everything is computed."""
    if form not in FORMAT_SUFFIX:
        raise NotFound("output format", form, FORMAT_SUFFIX)
    if output == "image" and (recipe.probabilities or recipe.saliency or recipe.instances):
        raise BadInput(f"Model {name!r} makes images, not classes: it has no probabilities, saliency or instances.")
    if output == "image" and recipe.blend == "any":
        raise BadInput(f"Model {name!r} makes images, not classes: --blend any joins objects. Take linear or max.")
    names = [spec.name for spec in header.classes]
    if recipe.instances is not None and recipe.instances not in names:
        raise NotFound("class", recipe.instances, names)
    if form == "png" and output == "image" and recipe.dtype == "float32":
        raise BadInput("PNG holds whole numbers: leave --dtype at uint16 or uint8, or write tiff, ome-zarr or npy.")


@dataclass(frozen=True, slots=True)
class _Right:
    """What is right for an image: a file, or one for each known plane (t, z); and a word that changes with them."""

    whole: Path
    shown: str
    planes: Planes = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        return [*self.planes.values()] or [self.whole]


def _truth_of(records: list[ImageRecord], truth: Path | None, *, by_plane: bool) -> dict[int, _Right]:
    """Image id to what is right for it, by stem."""
    if truth is None:
        return {}
    named = {record.name: record for record in records}
    places = {name: record.path for name, record in named.items()}
    pairs = pair_folder(places, truth, "class maps or images", by_plane=by_plane)
    found = {}
    for image, own in pairs.files.items():
        planes = pairs.planes.get(image, {})
        require_within(named[image], planes)
        for file in planes.values():
            with open_image(file, expand_palette=False) as source:
                require_one_plane(source, file)
        shown = [f"{file} {file.stat().st_mtime_ns}" for file in (*planes.values(),) or (own,)]
        found[named[image].id] = _Right(own, "; ".join(shown), planes)
    return found


def require_within(record: ImageRecord, planes: Planes) -> None:
    """Refuse files of planes that an image has not, or that may be of several. Raises BadInput."""
    times, depth = record.shape[0], record.shape[2]
    if any(own != tuple(range(len(own))) for own in numbers_of(record)):
        raise BadInput(
            f"{record.name}: its frames are not numbered 0, 1, 2, ..., and files of single planes are named by places "
            f"that count from 0, so {next(iter(planes.values())).name} could be of two planes. Give one stack as truth."
        )
    for (t, z), file in planes.items():
        if t >= times or z >= depth:
            raise BadInput(
                f"{file}: is named as plane t{t}, z{z} of {record.name}, which has {times} times and {depth} slices, "
                "counted from 0. Correct the name."
            )


def require_one_plane(source: ImageSource, file: Path) -> None:
    """Refuse a file that is named as a plane and holds several. Raises BadInput."""
    if (source.shape[0], source.shape[2]) != (1, 1):
        raise BadInput(f"{file.name}: is named as one plane, and holds several. Give a picture of that plane.")


def _truth_codes(header: Header, files: Sequence[Path], folder: Path | None) -> list[list[int]]:
    """Pairs of values of true class maps and what the model writes for them, as in evaluating; none for its own values.

    Raises BadInput where the maps hold no value that the model knows.
    """
    from fieldmark.evaluate.truth import label_map
    from fieldmark.workbench.legends import legend_of, truth_coding

    found: dict[str, set[int]] = {}
    for path in files:
        with open_image(path, expand_palette=False) as source:
            found[path.name] = values_in(source, [0], partial(label_map, name=path.name))
    values = {spec.name: spec.value for spec in header.classes}
    used = set().union(*found.values())
    if legend_of(folder) is None and used & {*values.values()} and not any(used <= {0, top} for top in (1, 255)):
        return []
    return [[value, written] for value, written in truth_coding(folder, found, values).mapping.items()] if found else []


def _own_channels(records: list[ImageRecord], targets: Sequence[int]) -> dict[int, _Right]:
    """The same where channels of the images themselves are right."""
    return {record.id: _Right(record.path, f"channels {list(targets)}") for record in records}


def unique_stems(records: list[ImageRecord]) -> dict[int, str]:
    """Image id to its name without the suffix. BadInput names two images of one stem."""
    owners: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in records:
        owners[stem_of(record.name)].append(record)
    for stem, same in owners.items():
        if len(same) > 1:
            raise BadInput(
                f"{same[0].name} and {same[1].name} would both be written as {stem}. "
                "Rename one of them, or predict them one by one into two folders."
            )
    return {same[0].id: stem for stem, same in owners.items()}


def stem_of(name: str) -> str:
    """`sub/cell.ome.tif` as `sub/cell`; never a path that leads out of the folder that it is put into."""
    path = Path(*(part for part in PurePosixPath(name).parts if part not in ("..", "/")))
    stem = path.name
    for suffix in (path.suffix, ".ome", ".nii"):
        if suffix and stem.lower().endswith(suffix.lower()):
            stem = stem[: -len(suffix)]
    return (path.parent / stem).as_posix()


def _item(
    header: Header, record: ImageRecord, stem: str, out: Path, form: str, recipe: PredictRecipe
) -> dict[str, Any]:
    """The files of one image."""
    suffix, hidden = FORMAT_SUFFIX[form], out / HIDDEN
    words = [""] if form != "png" else [f"-{_file_word(spec.name)}" for spec in header.classes]
    probabilities = [str(out / f"{stem}-probabilities{word}{suffix}") for word in words]
    item = {
        "name": record.name,
        "uri": record.uri,
        "content_hash": record.content_hash,
        "target": str(out / f"{stem}{suffix}"),
        "probabilities": probabilities if recipe.probabilities else [],
        "saliency": [str(out / f"{stem}-saliency{suffix}")] if recipe.saliency else [],
        "instances": [str(out / f"{stem}-instances{suffix}")] if recipe.instances else [],
        "figures": _figures(record, stem, out) if recipe.figures else [],
        "figures_at": str((out / "figures" / stem).parent),
        "numbers": numbers_of(record) if form == "png" else ((), ()),
        "work": str(hidden / "work" / f"{stem}{suffix}"),
        "stamp": str(hidden / "made" / f"{stem}{suffix}.json"),
        "stamps_beside": [
            str(hidden / "made" / f"{stem}{other}.json") for other in FORMAT_SUFFIX.values() if other != suffix
        ],
    }
    return item | {"files": [str(path) for path in _files_of(item, record, form, _answered(header))]}


def _answered(header: Header) -> int:
    """Channels of what a model predicts: of an image those that its network says, else as many as it sees."""
    if header.outputs[:1] != ("image",) or header.classes:
        return 1
    told = header.config.get("out_channels")
    if isinstance(told, int) and 1 <= told < MOST_CHANNELS:  # of other numbers the worker says what is wrong
        return told
    return prepared_channels(header.preparation, header.channels)


def _files_of(item: dict[str, Any], record: ImageRecord, form: str, channels: int) -> Iterator[Path]:
    """Every file that an image's prediction is delivered as; `channels` are those of a predicted image."""
    lists = [item["target"]], *(item[kind] for kind in ("probabilities", "saliency", "instances"))
    for count, paths in zip((channels, 1, 1, 1), lists, strict=True):
        for path in map(Path, paths):
            shape = (record.shape[0], count, *record.shape[2:])
            yield from (one.path for one in plane_files(path, shape, item["numbers"])) if form == "png" else [path]
    yield from map(Path, item["figures"])


def numbers_of(record: ImageRecord) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of the times and slices of a position of frames, which each PNG keeps; others are counted from 0."""
    from fieldmark.images import open_image
    from fieldmark.images.source import plane_numbers

    if record.path.suffix != FRAMES_SUFFIX or record.shape[0] * record.shape[2] == 1:
        return (), ()
    with open_image(record.path, shown=record.name) as source:
        return plane_numbers(source)


def _figures(record: ImageRecord, stem: str, out: Path) -> list[str]:
    """Its sheets of pictures."""
    pages = -(-record.shape[0] * record.shape[2] // FIGURE_PLANES)
    words = [""] if pages == 1 else [f"-{page + 1}" for page in range(pages)]
    return [str(out / "figures" / f"{stem}{word}.png") for word in words]


def _file_word(name: str) -> str:
    """A class's name as a part of a file's name, on any system."""
    return "".join(part if part.isalnum() or part in "-_" else "_" for part in name)


def _strokes(bench: Workbench, header: Header, record: ImageRecord, folder: Path) -> tuple[str | None, str]:
    """The strokes of one image for propagation, and their hash; None where it has none."""
    places = {spec.id: place for place, spec in enumerate(header.classes)}
    marks = collect_marks(bench.labels, [record], places)
    if len(marks["image"]) == 0:
        return None, ""
    digest = write_bundle(folder, "strokes.json", {}, marks)
    return str(folder / "strokes.json"), digest


def _refuse_clashes(items: list[dict[str, Any]]) -> None:
    """Two outputs of one name: an image named as another's probabilities, or two classes that differ by a sign."""
    owners: dict[Path, str] = {}
    for item in items:
        for path in map(Path, item["files"]):
            if path in owners:
                raise BadInput(f"{owners[path]} and {item['name']} would both write {path}. Rename one of them.")
            owners[path] = item["name"]


def _left_before(names: Iterable[str], paths: Iterable[str], folder: Path) -> list[str]:
    """Names of files that an earlier run wrote into a folder, with other options, and that are still there."""
    own = {Path(path).name for path in paths}
    return [name for name in names if name not in own and (folder / name).exists()]


def _about_slices(header: Header, records: Sequence[ImageRecord]) -> Iterator[Event]:
    """What is said where a network of stacks or volumes meets single slices, such as the frames of a stack."""
    alone = [record.name for record in records if record.shape[2] == 1]
    if alone and header.config.get("dims") in ("2.5", "3"):
        message = (
            f"{some(alone)}: one slice, and the model sees several at once, so what lies above and below is mirrored. "
            "Where these are slices of stacks, answers within their stacks are others: fieldmark add --layout frames, "
            "or fieldmark predict --config."
        )
        yield Event("note", 0, 0, message=message)


def _about_before(items: list[dict[str, Any]]) -> Iterator[Event]:
    for item in items:
        if names := [*item["before"], *item["figures_before"], *item["before_beside"]]:
            left = f"{', '.join(names)} of an earlier prediction was not asked for now, and stays as it was."
            yield Event("note", 0, 0, message=f"{item['name']}: {left}")


def _ours(stamp: str) -> tuple[list[str], list[str]]:
    """Names of the files that a stamp knows: beside the target, and of figures."""
    if not Path(stamp).is_file():
        return [], []
    values = read_json(Path(stamp))
    files = values.get("files", [])
    return files, values.get("figures", files)  # stamps of before had one list


def _refuse_strangers(items: list[dict[str, Any]]) -> None:
    """A file that Fieldmark did not write is never overwritten; what earlier runs wrote beside stays known as ours.

    Figures have the same names whatever the format, so that those of all formats are known.
    """
    for item in items:
        folder, drawn_at, drawn = Path(item["target"]).parent, Path(item["figures_at"]), item["figures"]
        files, figures = _ours(item["stamp"])
        beside = [_ours(stamp) for stamp in item["stamps_beside"]]
        figures = list(dict.fromkeys([*figures, *(name for _, names in beside for name in names)]))
        item["before"] = _left_before(files, set(item["files"]) - set(drawn), folder)
        item["figures_before"] = _left_before(figures, drawn, drawn_at)
        item["before_beside"] = _left_before((name for names, _ in beside for name in names), item["files"], folder)
        for path in map(Path, item["files"]):
            if path.exists() and path.name not in (figures if str(path) in drawn else files):
                raise BadInput(f"{path} is there already and Fieldmark did not write it. Choose another --out.")
