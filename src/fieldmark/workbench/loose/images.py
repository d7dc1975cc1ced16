"""A project of our own below the outputs, with images that lie anywhere: what works there works as everywhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fieldmark.collection import AddReport
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadInput, Cancelled, FieldmarkError, InUse, WorkerFailed
from fieldmark.workbench.bench import Workbench
from fieldmark.workbench.locks import alone

HIDDEN = ".fieldmark"
_READY = "assembled"
_MOST_NAMED = 5


def assemble(folder: Path, fill: Callable[[Workbench], None], *, again: bool = False) -> Workbench:
    """The project in `folder`, filled; made anew unless it was finished before, or where `again` is asked for.

    Where it cannot be filled nothing is left of it, nor of the folders that were made for it. One that is made again
    each time is nobody else's until it is closed.

    Raises:
        InUse: One that is made again each time is somebody else's.
    """
    if not again:
        return _filled(folder, fill, again=False)
    with ExitStack() as held:
        held.enter_context(alone(folder.with_name(f"{folder.name}.lock"), _busy(folder)))
        bench = _filled(folder, fill, again=True)
        bench.until_closed.push(held.pop_all())
    return bench


def _busy(folder: Path) -> str:
    return f"{folder.parent.parent}: another run is at work there. Wait until it has ended, or choose another folder."


def _filled(folder: Path, fill: Callable[[Workbench], None], *, again: bool) -> Workbench:
    if (folder / _READY).is_file() and not again:
        return Workbench.open(folder)
    above = _missing(folder.parent)
    shutil.rmtree(folder, ignore_errors=True)
    bench = Workbench.init(folder, name="loose")
    try:
        fill(bench)
    except BaseException:
        bench.close()
        shutil.rmtree(folder, ignore_errors=True)
        _remove_empty(above)
        raise
    write_atomic(folder / _READY, b"")
    return bench


@contextmanager
def nothing_left(out: Path) -> Iterator[None]:
    """Leave no folder behind where an error of ours comes before anything was predicted into `out`.

    What was stopped or has crashed stays: it goes on from there, and its log lies there.
    """
    with leaving_nothing(out.resolve() / HIDDEN, unless=_holds_predictions):
        yield


@contextmanager
def alone_with(folder: Path) -> Iterator[None]:
    """Nobody else works on a project inside the block; its lock goes where the project is not there in the end.

    Raises:
        InUse: Somebody else does already.
    """
    above, lock = _missing(folder.parent), folder.with_name(f"{folder.name}.lock")
    with alone(lock, _busy(folder)):
        try:
            yield
        finally:
            if not folder.exists():  # who waits for the lock sees that it is gone, and makes another
                lock.unlink(missing_ok=True)
                _remove_empty(above)


@contextmanager
def nothing_begun(work: Path) -> Iterator[None]:
    """Leave nothing of a fit's project, nor of folders made for it, where an error of ours comes before its first step.

    What was stopped, has crashed or has learned something stays: the same command goes on from there.
    """
    with leaving_nothing(work, unless=_has_learned):
        yield


@contextmanager
def leaving_nothing(folder: Path, *, unless: Callable[[Path], bool]) -> Iterator[None]:
    """Remove a folder that was not there before, and those made for it, where an error of ours ends the block."""
    above = _missing(folder.parent)
    begun = folder.exists()
    try:
        yield
    except FieldmarkError as error:
        if not begun and not isinstance(error, (Cancelled, InUse, WorkerFailed)) and not unless(folder):
            shutil.rmtree(folder, ignore_errors=True)
            _remove_empty(above)
        raise


def _has_learned(work: Path) -> bool:
    return any(any(work.glob(f"runs/*/{name}")) for name in ("state", "model"))


def _holds_predictions(hidden: Path) -> bool:
    """Whether an image was delivered, or a tile of one is finished (see `infer.jobs`)."""
    if any((hidden / "made").rglob("*.json")):
        return True
    for log in (hidden / "work").rglob("done.log"):
        with open(log, "rb") as lines:  # the first line says of what
            if sum(1 for _ in zip(lines, range(2), strict=False)) > 1:
                return True
    return False


def _missing(folder: Path) -> list[Path]:
    """A folder and those above it that are not there, the innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # somebody has put something there meanwhile, or it never came to be
            continue


def add_whole(bench: Workbench, paths: Sequence[Path], *, layout: str = "folder") -> AddReport:
    """Add images. Raises BadInput where one of them cannot be read: nothing is done with less than was named."""
    return require_whole(bench.add(paths, layout=layout))


def require_whole(report: AddReport) -> AddReport:
    """The report of images that were added. Raises BadInput where one of them was left out."""
    if report.left_out:
        lines = "; ".join(f"{name}: {why}" for name, why in report.left_out[:_MOST_NAMED])
        more = f"; and {len(report.left_out) - _MOST_NAMED} more" if len(report.left_out) > _MOST_NAMED else ""
        count = len(report.left_out)
        what = "1 image" if count == 1 else f"{count} images"
        raise BadInput(f"{what} cannot be read, so nothing was done: {lines}{more}")
    return report
