"""From a model and images to label maps: plan the files, run the worker."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    if (own / "model.json").is_file():
        return own
    if (Path(name) / "model.json").is_file():
        return Path(name)
    raise NotFound("model", name, (path.name for path in bench.models()))


def predict(
    bench: Workbench, name: str, records: list[ImageRecord], out: Path, form: str, recipe: PredictRecipe
) -> Iterator[Event]:
    """Write `out/<stem>.<ext>` for every image, sub-folders kept; one event a tile.

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
    if not header.classes:
        raise BadInput(f"Model {name!r} gives no classes: it was fitted without labels. Label pixels and fit it again.")
    stems = unique_stems(records)
    refuse_originals(bench, out)
    digest = str(read_json(folder / "model.json")["weights_sha256"])
    items = [
        _item(bench, header, record, stems[record.id], out, form, [digest, recipe.model_dump(mode="json"), form])
        for record in records
    ]
    _refuse_strangers(items)
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
    """`sub/cell.ome.tif` as `sub/cell`."""
    path = Path(name)
    stem = path.name
    for suffix in (path.suffix, ".ome"):
        if suffix and stem.lower().endswith(suffix.lower()):
            stem = stem[: -len(suffix)]
    return (path.parent / stem).as_posix()


def refuse_originals(bench: Workbench, out: Path) -> None:
    """Law 4: nothing is written beside the user's images."""
    resolved = out.resolve()
    for record in bench.collection.all(include_excluded=True):
        if Path(record.uri).parent == resolved:
            raise BadInput(f"{out} holds images of the project ({record.name}). Choose another folder with --out.")


def _item(
    bench: Workbench, header: Header, record: ImageRecord, stem: str, out: Path, form: str, made_from: list[Any]
) -> dict[str, Any]:
    suffix = FORMAT_SUFFIX[form]
    hidden = out / HIDDEN
    strokes, digest = _strokes(bench, header, record, hidden / "strokes" / f"{record.id}")
    return {
        "name": record.name,
        "uri": record.uri,
        "target": str(out / f"{stem}{suffix}"),
        "probabilities": str(out / f"{stem}-probabilities{suffix}"),
        "work": str(hidden / "work" / stem),
        "stamp": str(hidden / "made" / f"{stem}{suffix}.txt"),
        "strokes": strokes,
        "made_from": fingerprint([*made_from, record.content_hash, digest]),
    }


def _strokes(bench: Workbench, header: Header, record: ImageRecord, folder: Path) -> tuple[str | None, str]:
    """The strokes of one image for propagation, and their hash; None where it has none."""
    places = {spec.id: place for place, spec in enumerate(header.classes)}
    marks = collect_marks(bench.labels, [record], places)
    if len(marks["image"]) == 0:
        return None, ""
    digest = write_bundle(folder, "strokes.json", {}, marks)
    return str(folder / "strokes.json"), digest


def _refuse_strangers(items: list[dict[str, Any]]) -> None:
    """A file that Fieldmark did not write is never overwritten."""
    for item in items:
        if Path(item["target"]).exists() and not Path(item["stamp"]).is_file():
            raise BadInput(f"{item['target']} is there already and Fieldmark did not write it. Choose another --out.")
