"""From a model and images to label maps: plan the files, run the worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from fieldmark import __version__
from fieldmark.checkpoint import Header, header_of, write_bundle
from fieldmark.checkpoint.bundle import read_json
from fieldmark.core.events import Event
from fieldmark.core.fingerprint import fingerprint
from fieldmark.errors import BadInput, NotFound
from fieldmark.images.writers import FORMAT_SUFFIX
from fieldmark.workbench.fitting import collect_marks
from fieldmark.workbench.jobs import run_job

if TYPE_CHECKING:
    from fieldmark.collection import ImageRecord
    from fieldmark.recipes import PredictRecipe
    from fieldmark.workbench.bench import Workbench

HIDDEN = ".fieldmark"


def model_folder(bench: Workbench, name: str) -> Path:
    """The folder of a model of the project, or the model folder that was typed."""
    own = bench.project.models / name
    for folder in (own, Path(name)):
        if name and _holds_model(folder):
            return folder
    raise NotFound("model", name, (path.name for path in bench.models()))


def _holds_model(folder: Path) -> bool:
    try:
        return (folder / "model.json").exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def predict(
    bench: Workbench, name: str, records: list[ImageRecord], out: Path, form: str, recipe: PredictRecipe
) -> Iterator[Event]:
    """Write `out/<stem>.<ext>` for every image, sub-folders kept; one event a tile.

    A model that knows whole images only writes `out/answers.csv` instead.

    Args:
        bench: The project.
        name: A model of the project, or a model folder.
        records: The images.
        out: Where to write; never a folder that holds images of the project.
        form: `ome-zarr`, `tiff` or `png`.
        recipe: How.
    """
    folder = model_folder(bench, name)
    header = header_of(folder)
    if not header.classes:  # neither of pixels nor of images
        raise BadInput(f"Model {name!r} gives no classes: it was fitted without labels. Label pixels and fit it again.")
    if not records:
        raise BadInput(f"Project {bench.project.name!r} has no images to predict. Add some: fieldmark add FOLDER.")
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file. Choose a folder with --out.")
    if "classes" not in header.outputs:
        from fieldmark.workbench.answering import answer_images

        yield from answer_images(bench, name, records, out / "answers.csv")
        return
    out = out.resolve()
    stems = unique_stems(records)
    made_from = [__version__, read_json(folder / "model.json"), recipe.model_dump(mode="json"), form]
    items = [_item(header, record, stems[record.id], out, form, recipe) for record in records]
    refuse_originals(bench, [out, *(path.parent for item in items for path in _outputs(item))])
    _refuse_clashes(items)
    _refuse_strangers(items)
    for item, record in zip(items, records, strict=True):
        item["strokes"], digest = _strokes(bench, header, record, out / HIDDEN / "strokes" / f"{record.id}")
        item["made_from"] = fingerprint([*made_from, record.content_hash, digest])
    job = {
        "kind": "predict",
        "model": str(folder),
        "name": name,
        "format": form,
        "recipe": recipe.model_dump(mode="json"),
        "images": items,
    }
    yield from run_job(job, out / HIDDEN / "job.json", threads=recipe.threads)


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


def refuse_originals(bench: Workbench, folders: Iterable[Path]) -> None:
    """Law 4: nothing is written into a folder that holds images of the project, or into an image that is a folder.

    Args:
        bench: The project.
        folders: Those that would be written into.
    """
    owners: dict[Path, str] = {}
    for record in bench.collection.all(include_excluded=True):
        owners.setdefault(record.path.resolve().parent, record.name)
        owners[record.path.resolve()] = record.name
    images = {path for path in owners if path.suffix.lower() == ".zarr"}
    for folder in {folder.resolve() for folder in folders}:
        for place in (folder, *images.intersection(folder.parents)):
            if place in owners:
                raise BadInput(
                    f"{place} holds images of the project ({owners[place]}); originals are only read. "
                    "Choose another folder with --out."
                )


def _item(
    header: Header, record: ImageRecord, stem: str, out: Path, form: str, recipe: PredictRecipe
) -> dict[str, Any]:
    """The files of one image."""
    suffix, hidden = FORMAT_SUFFIX[form], out / HIDDEN
    words = [""] if form != "png" else [f"-{_file_word(spec.name)}" for spec in header.classes]
    probabilities = [str(out / f"{stem}-probabilities{word}{suffix}") for word in words]
    return {
        "name": record.name,
        "uri": record.uri,
        "content_hash": record.content_hash,
        "target": str(out / f"{stem}{suffix}"),
        "probabilities": probabilities if recipe.probabilities else [],
        "saliency": [str(out / f"{stem}-saliency{suffix}")] if recipe.saliency else [],
        "work": str(hidden / "work" / f"{stem}{suffix}"),
        "stamp": str(hidden / "made" / f"{stem}{suffix}.json"),
    }


def _file_word(name: str) -> str:
    """A class's name as a part of a file's name, on any system."""
    return "".join(part if part.isalnum() or part in "-_" else "_" for part in name)


def _outputs(item: dict[str, Any]) -> list[Path]:
    return [Path(path) for path in (item["target"], *item["probabilities"], *item["saliency"])]


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
        for path in _outputs(item):
            if path in owners:
                raise BadInput(f"{owners[path]} and {item['name']} would both write {path}. Rename one of them.")
            owners[path] = item["name"]


def _refuse_strangers(items: list[dict[str, Any]]) -> None:
    """A file that Fieldmark did not write is never overwritten."""
    for item in items:
        stamp = Path(item["stamp"])
        known = read_json(stamp).get("files", []) if stamp.is_file() else []
        for path in _outputs(item):
            if path.exists() and path.name not in known:
                raise BadInput(f"{path} is there already and Fieldmark did not write it. Choose another --out.")
