"""Whose an `output_dir` is, how far a preparation into it has come, and what of an earlier one goes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from fieldmark.collection.frames import META
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadFile, BadInput
from fieldmark.workbench.locks import alone
from fieldmark.workbench.loose.images import HIDDEN, leaving_nothing

INFO = "preprocessing_info.json"
"""Where microDL, and `fieldmark prepare --config`, write the settings that data were prepared with."""
FIELDS = "flat_field_images"
"""Beside it: flat fields, one file for each channel."""
STATE = "prepare.json"
LOCK = "prepare.lock"
STEPS = "preparation.json"
TILES = "tiles.csv"
STATISTICS = "statistics.csv"
OURS = (INFO, META, STEPS, TILES, STATISTICS, FIELDS)
"""What is written into every `output_dir`."""
_FOLDERS = (FIELDS, "mask_channels_", "weight_map_channels_", "tiles_")
_FRAME_FILES = ("im_c*.png", "im_c*.npy", "flat-field_channel-*.npy", META, ".*.draft")


def alone_at(out: Path) -> AbstractContextManager[None]:
    """Nobody else prepares into the folder inside the block. Raises InUse where somebody does already."""
    busy = f"{out}: another preparation is at work there. Wait until it has ended, or choose another output_dir."
    return alone(out / HIDDEN / LOCK, busy)


def refuse_strangers(out: Path) -> None:
    """Raise BadInput where `out` holds what Fieldmark has not written: it is never replaced."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file. Choose a folder as output_dir.")
    if (out / HIDDEN / STATE).is_file() or not out.is_dir():
        return
    there = [name for name in OURS if (out / name).exists()]
    if there:
        raise BadInput(
            f"{out} holds {there[0]}, which Fieldmark has not written. Choose another folder as output_dir; what "
            "microDL has prepared can be fitted as it is: fieldmark fit --config FILE."
        )


def refuse_replaced(out: Path, read: Iterable[tuple[str, Path]]) -> None:
    """Raise BadInput where a folder that is read, by its key in the file, is one that a preparation would replace."""
    for name, folder in read:
        if _is_replaced(out, folder):
            raise BadInput(
                f"{name} is {folder}, which a preparation into {out} replaces. Move it to another place, or choose "
                "another folder as output_dir."
            )


def _is_replaced(out: Path, folder: Path) -> bool:
    """Whether a folder is one of those in `out` that are ours, or lies in one."""
    here, whole = out.resolve(), folder.resolve()
    return whole.is_relative_to(here) and whole != here and whole.relative_to(here).parts[0].startswith(_FOLDERS)


def is_done(out: Path, made_from: str) -> bool:
    """Whether this was prepared to its end, and all of it is still there."""
    state = _state(out)
    return state.get("made_from") == made_from and state.get("done") is True and _is_whole(out, state.get("files"))


def begin(out: Path, made_from: str, *, keep: Path | None = None) -> None:
    """Claim the folder; what an earlier preparation of something else has written goes.

    Args:
        out: The folder.
        made_from: The fingerprint of what is prepared.
        keep: A folder of files that are read, and stay.
    """
    if (out / HIDDEN / STATE).is_file() and _state(out).get("made_from") != made_from:
        _write(out, made_from="", done=False)  # stopped from here on, neither of them is there
        for name in (META, STEPS, TILES, STATISTICS):
            (out / name).unlink(missing_ok=True)
        for folder in _folders(out):
            if keep is None or folder.resolve() != keep.resolve():
                _remove(folder)
    _write(out, made_from=made_from, done=False)


def finish(out: Path, made_from: str) -> None:
    """All of it is there."""
    names = [name for name in OURS if (out / name).is_file()]
    counts = dict.fromkeys(names, 1) | {folder.name: _count(folder) for folder in _folders(out)}
    _write(out, made_from=made_from, done=True, files=counts)


@contextmanager
def nothing_prepared(out: Path) -> Iterator[None]:
    """Leave nothing of a preparation where an error of ours comes before its first file.

    What was stopped or has written something stays: the same command goes on from there.
    """
    with leaving_nothing(out.resolve() / HIDDEN, unless=lambda hidden: _holds_ours(hidden.parent)):
        yield


def _holds_ours(out: Path) -> bool:
    return any((out / name).exists() for name in OURS) or bool(_folders(out))


def require_prepared(out: Path) -> None:
    """Raise BadFile where a preparation into the folder was begun and has not come to its end."""
    if (out / HIDDEN / STATE).is_file() and _state(out).get("done") is not True:
        raise BadFile(out, "a preparation into it has not come to its end. Run it again: fieldmark prepare --config.")


def _folders(out: Path) -> list[Path]:
    return sorted(path for path in out.glob("*") if path.name.startswith(_FOLDERS) and path.is_dir())


def _remove(folder: Path) -> None:
    """What we have written into a folder, and the folder where nothing else is left."""
    for path in (path for pattern in _FRAME_FILES for path in folder.glob(pattern)):
        path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _count(folder: Path) -> int:
    return sum(not path.name.startswith(".") for path in folder.iterdir()) if folder.is_dir() else int(folder.is_file())


def _is_whole(out: Path, files: Any) -> bool:
    return isinstance(files, dict) and all(_count(out / name) >= count for name, count in files.items())


def _write(out: Path, **state: Any) -> None:
    write_atomic(out / HIDDEN / STATE, json.dumps(state).encode())


def _state(out: Path) -> dict[str, Any]:
    try:
        found = json.loads((out / HIDDEN / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
