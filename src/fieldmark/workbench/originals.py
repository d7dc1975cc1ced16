"""Law 4: which folders hold originals, and so are never written into."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fieldmark.errors import BadInput
from fieldmark.images.readers import FRAMES_SUFFIX
from fieldmark.images.readers.frames import frames_folder
from fieldmark.images.zarr_folders import is_zarr_folder

if TYPE_CHECKING:
    from fieldmark.workbench.bench import Workbench


def refuse_inside(out: Path, originals: Iterable[Path], option: str = "") -> None:
    """Raise BadInput where `out` is one of the folders of originals that were named, or lies in one.

    Args:
        out: The file or folder that would be written.
        originals: What is only read; a file stands for itself, not for its folder.
        option: What named them on the command line; empty for none.
    """
    for folder in originals:
        if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            named = f"{folder} ({option})" if option else f"{folder}"
            raise BadInput(f"{out} lies in {named}, which is only read. Choose another folder.")


def refuse_originals(bench: Workbench, folders: Iterable[Path], option: str = "--out") -> None:
    """Raise BadInput where a folder holds images of the project, or lies in one that does.

    Two places among images are no originals: the folder of a project that the user put there, and, for whoever works in
    a folder that holds images (the current one), the folders below it.

    Args:
        bench: The project.
        folders: Those that would be written into.
        option: What names them on the command line; empty for an argument.
    """
    owners = _image_folders(bench)
    homes = (bench.project.folder.resolve(), Path.cwd())
    for folder in {folder.resolve() for folder in folders}:
        inside = [place for place in (folder, *folder.parents) if place in owners]
        if inside and not _is_own(folder, inside[0], homes):
            place = inside[0]
            lies = "" if place == folder else f"{folder} lies in a folder of images: "
            raise BadInput(
                f"{lies}{place} holds images of the project ({owners[place]}); originals are only read. "
                f"Choose another folder{f' with {option}' if option else ''}."
            )


def _is_own(folder: Path, place: Path, homes: Iterable[Path]) -> bool:
    """Whether a folder below one of images belongs to a project or a user who stands there too."""
    return folder != place and any(folder.is_relative_to(home) and home.is_relative_to(place) for home in homes)


def _image_folders(bench: Workbench) -> dict[Path, str]:
    """Folders that images of the project lie in, or are, and the name of one of them each."""
    owners: dict[Path, str] = {}
    for record in bench.collection.all(include_excluded=True):
        if (folder := _folder_of(record.path)) is not None:
            owners.setdefault(folder, record.name)
        if record.path.is_dir():
            owners[record.path.resolve()] = record.name
    return owners


def _folder_of(path: Path) -> Path | None:
    """That which an image lies in, of fields of a plate the plate; None where a listing of frames is gone."""
    if path.suffix == FRAMES_SUFFIX:
        return frames_folder(path, str(path)).resolve() if path.exists() else None
    whole = path.resolve()
    above = [place for place in whole.parents if is_zarr_folder(place)] if whole.is_dir() else []
    return above[-1] if above else whole.parent
