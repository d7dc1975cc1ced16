"""Where predictions go: label maps and probabilities on disk, restartable tile by tile."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from fieldmark.core.geometry import Box
from fieldmark.infer.tiles import with_channels

if TYPE_CHECKING:
    from fieldmark.images.writers import ImageWriter


class ArraySink:
    """Answers in memory: (t, k, z, y, x) float32 in `answers`."""

    def __init__(self, shape: tuple[int, ...], channels: int) -> None:
        t, _, z, y, x = shape
        self.answers = np.zeros((t, channels, z, y, x), np.float32)

    def is_done(self, index: int) -> bool:
        return False

    def write(self, core: Box, answers: np.ndarray) -> None:
        self.answers[with_channels(core, self.answers.shape[1]).slices] = answers

    def mark_done(self, index: int) -> None:
        pass


class LoggedSink:
    """A sink that keeps a log of finished tiles."""

    def __init__(self, done: DoneLog) -> None:
        self.done = done

    def is_done(self, index: int) -> bool:
        return index in self.done

    def write(self, core: Box, answers: np.ndarray) -> None:
        raise NotImplementedError

    def mark_done(self, index: int) -> None:
        self.done.add(index)


class ClassSink(LoggedSink):
    """The most probable class of each pixel, written as its value; probabilities too on request.

    Args:
        labels: Writer of one channel.
        values: (K,) pixel value of each class, in the order of the model's outputs.
        done: Which tiles are finished.
        probabilities: Writer of K channels, or None.
        shares: Type of the probabilities; whole numbers as `quantized` makes them.
    """

    def __init__(
        self,
        labels: ImageWriter,
        values: np.ndarray,
        done: DoneLog,
        probabilities: ImageWriter | None = None,
        shares: np.dtype | None = None,
    ) -> None:
        super().__init__(done)
        self.labels = labels
        self.values = values
        self.probabilities = probabilities
        self.shares = shares or np.dtype(np.float32)

    def write(self, core: Box, answers: np.ndarray) -> None:
        classes = self.values[answers.argmax(axis=1)][:, None]
        self.labels.write(with_channels(core, 1), classes)
        if self.probabilities is not None:
            self.probabilities.write(with_channels(core, answers.shape[1]), quantized(answers, self.shares))


class ImageSink(LoggedSink):
    """Predicted values, brought back to the units of what was taught.

    Args:
        writer: Of as many channels as the network answers.
        back: From answers (t, k, z, y, x) to values of the target's units, of the same shape.
        dtype: Type that is written; whole numbers are rounded and cut to what it holds.
        done: Which tiles are finished.
    """

    def __init__(
        self, writer: ImageWriter, back: Callable[[np.ndarray], np.ndarray], dtype: np.dtype, done: DoneLog
    ) -> None:
        super().__init__(done)
        self.writer = writer
        self.back = back
        self.dtype = dtype

    def write(self, core: Box, answers: np.ndarray) -> None:
        self.writer.write(with_channels(core, answers.shape[1]), rounded(self.back(answers), self.dtype))


def quantized(shares: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Shares in 0..1 as whole numbers whose largest stands for 1; float types keep them."""
    if dtype.kind == "f":
        return shares.astype(dtype, copy=False)
    return rounded(shares * np.iinfo(dtype).max, dtype)


def rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values rounded and cut to what an integer type holds; float types keep them."""
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    held = np.iinfo(dtype)
    whole: np.ndarray = np.rint(values.clip(held.min, held.max)).astype(dtype)
    return whole


class DoneLog:
    """Finished tiles, one a line, in a file that begins with what they were made from.

    A file of other makings is started anew: tiles of one model never end up beside
    those of another.
    """

    def __init__(self, path: Path, made_from: str) -> None:
        self.path = path
        found = _read_done(path, made_from)
        self._done: set[int] = found or set()
        self.is_new = found is None
        mode = "w" if self.is_new else "a"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] = open(path, mode, encoding="ascii")  # noqa: SIM115 - closed by `close`
        if self.is_new:
            self._append(made_from)

    def __contains__(self, index: int) -> bool:
        return index in self._done

    def __len__(self) -> int:
        return len(self._done)

    def add(self, index: int) -> None:
        self._append(str(index))
        self._done.add(index)

    def close(self) -> None:
        self._file.close()

    def _append(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def _read_done(path: Path, made_from: str) -> set[int] | None:
    """The finished tiles in a file; None where it is missing or made from something else.

    A last line that a crash has cut short is cut off: the next number would grow out of it.
    """
    if not path.is_file():
        return None
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    first, *rest = whole.decode("ascii", errors="replace").split("\n")
    if not whole or first != made_from:
        return None
    if len(whole) < len(data):
        os.truncate(path, len(whole))
    return {int(line) for line in rest if _is_number(line)}


def _is_number(line: str) -> bool:
    return line.isascii() and line.isdecimal() and len(line) < 19
