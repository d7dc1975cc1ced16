"""`predict MODEL_FOLDER IMAGES`: of images that belong to no project."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fieldmark.collection.catalog import uri_of
from fieldmark.errors import BadFile, BadInput
from fieldmark.recipes.dialects.weights import refuse_keras
from fieldmark.workbench.bench import Workbench
from fieldmark.workbench.loose.images import HIDDEN, add_whole, assemble
from fieldmark.workbench.loose.old import TORCH, begin_folder
from fieldmark.workbench.originals import refuse_inside
from fieldmark.workbench.project import CONFIG


def bench_for(place: Path, model: str, images: Sequence[str], out: Path) -> tuple[Workbench, str, tuple[str, ...]]:
    """The project whose images are to be predicted, the model, and the images' names in it.

    That is the project at `place`; or, for a model folder and images that no project there knows, one of our own
    below `out`. An old checkpoint (`.pt`) is converted.

    Args:
        place: Where the user is at work.
        model: A model's name in the project there, or a model folder.
        images: Names of the project's images; or files and folders.
        out: Where predictions are written.

    Raises:
        BadFile: There is neither a model folder of that name nor a project.
    """
    refuse_keras(model)
    if Path(model).suffix.lower() in TORCH and Path(model).is_file():
        model = str(begin_folder(Path(model), out.resolve() / HIDDEN / "converted"))
    if not _is_model(model):
        if images and not (place / CONFIG).is_file():
            raise BadFile(
                Path(model),
                f"is no model folder (no model.json), and {place} holds no project (no {CONFIG}) whose model it could "
                "be. Check the name, or name the project with -C.",
            )
        return Workbench.open(place), model, tuple(images)
    if (place / CONFIG).is_file():
        bench = Workbench.open(place)
        if not images or not _strangers(bench, images):
            return bench, model, tuple(images)
        bench.close()
    return loose_bench([Path(name) for name in images], out), model, ()


def loose_bench(images: Sequence[Path], out: Path) -> Workbench:
    """A project below `out` with these files and folders of images.

    Raises:
        BadInput: There is none, one cannot be read, or `out` lies where they are.
    """
    if not images:
        raise BadInput("No images were named, and this folder is no project. Name files or folders: IMAGES.")
    for path in images:
        if not path.exists():
            raise BadFile(path, "there is no such file or folder. Check the name.")
    refuse_inside(out, images)
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file. Choose a folder with --out.")

    def fill(bench: Workbench) -> None:
        add_whole(bench, images)
        if not bench.collection.all():
            raise BadInput(f"{', '.join(map(str, images[:3]))}: no image is in there. Name files or folders of images.")

    return assemble(out.resolve() / HIDDEN / "project", fill, again=True)


def _is_model(name: str) -> bool:
    try:
        return (Path(name) / "model.json").is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _strangers(bench: Workbench, images: Sequence[str]) -> bool:
    """Whether the project knows none of these names, and all of them are files or folders."""
    records = bench.collection.all(include_excluded=True)
    known = {record.name for record in records} | {record.uri for record in records}
    named = {*images, *(uri_of(Path(name)) for name in images)}
    return not known & named and all(Path(name).exists() for name in images)
