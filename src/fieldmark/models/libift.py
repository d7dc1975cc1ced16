"""Kernel folders of libIFT: `convN-kernels.npy`, `convN-mean.txt`, `convN-stdev.txt`, `convN-bias.txt`.

The matrix of layer N has a column for each kernel, and a row for each weight of a patch: offset by
offset, the channels of an offset together. Two orders of the offsets are in use:

- `center-first`: that of libIFT's adjacency relations; the center, then the others with dz outermost,
  then dy, dx innermost;
- `rows`: plain rows and columns, the center in its place in the middle.

A file does not say which of them it has, so that the reader must.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Literal

import numpy as np

from fieldmark.core.files import write_atomic
from fieldmark.errors import BadFile, BadInput

Order = Literal["center-first", "rows"]
MAX_BYTES = 1 << 30
"""A larger file is not read: the layers of these networks have some thousands of weights."""
MOST_LAYERS = 100


@dataclass(frozen=True, slots=True)
class LibiftLayer:
    """One layer as the folder has it: `relu(weight * (x - mean) / std + bias)`.

    Args:
        weight: (K, C, k, k) or (K, C, k, k, k) float32.
        bias: (K,) float32; zeros where the folder has none.
        mean: (C,) float32; zeros where the folder has none, as in those with a folded normalization.
        std: (C,) float32; ones where the folder has none.
    """

    weight: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    def folded(self) -> LibiftLayer:
        """The same responses without a normalization, where the padding is the mean."""
        shape = (1, -1, *(1,) * (self.weight.ndim - 2))
        weight = self.weight / self.std.reshape(shape)
        shift = (weight * self.mean.reshape(shape)).sum(axis=tuple(range(1, weight.ndim)))
        return LibiftLayer(weight, self.bias - shift, np.zeros_like(self.mean), np.ones_like(self.std))


def offsets(shape: Sequence[int], order: Order = "center-first") -> np.ndarray:
    """The places of a patch's offsets among its rows and columns, in the order of the matrix: (prod(shape),)."""
    count = prod(shape)
    places = np.arange(count)
    return np.r_[count // 2, np.delete(places, count // 2)] if order == "center-first" else places


def to_matrix(weight: np.ndarray, order: Order = "center-first") -> np.ndarray:
    """(K, C, ...) kernels to the (offsets * C, K) matrix."""
    rows = weight.reshape(*weight.shape[:2], -1)[:, :, offsets(weight.shape[2:], order)]
    return np.ascontiguousarray(rows.transpose(2, 1, 0).reshape(-1, len(weight)), np.float32)


def from_matrix(matrix: np.ndarray, channels: int, shape: Sequence[int], order: Order = "center-first") -> np.ndarray:
    """The (offsets * C, K) matrix to (K, C, ...) kernels."""
    rows = matrix.reshape(prod(shape), channels, -1).transpose(2, 1, 0)
    weight = np.empty_like(rows)
    weight[:, :, offsets(shape, order)] = rows
    return np.ascontiguousarray(weight.reshape(*weight.shape[:2], *shape), np.float32)


def write_layers(folder: Path, layers: Sequence[LibiftLayer], order: Order = "center-first") -> list[Path]:
    """Write four files a layer into a folder; they are named from `conv1` on. Returns the files."""
    written = []
    for number, layer in enumerate(layers, start=1):
        matrix = BytesIO()
        np.save(matrix, to_matrix(layer.weight, order), allow_pickle=False)
        texts = {"mean": layer.mean, "stdev": layer.std, "bias": layer.bias}
        files = {folder / f"conv{number}-{name}.txt": _as_text(values) for name, values in texts.items()}
        for path, data in {folder / f"conv{number}-kernels.npy": matrix.getvalue(), **files}.items():
            write_atomic(path, data)
            written.append(path)
    return written


def read_layers(
    folder: Path, channels: int, *, dims: int = 2, shapes: Sequence[Sequence[int]] = (), order: Order = "center-first"
) -> list[LibiftLayer]:
    """Read the layers of a folder; nothing in it is run.

    Args:
        folder: Holds `conv1-kernels.npy` and so on.
        channels: Of the first layer's input; each later layer has the kernels of the one before it.
        dims: 2, or 3 for kernels of volumes.
        shapes: The size of each layer's kernels where they are not squares or cubes.
        order: How the offsets are ordered.

    Raises:
        BadFile: A file is missing, damaged, too large, or does not fit the others.
    """
    if not (folder / "conv1-kernels.npy").is_file():
        raise BadFile(folder, "has no conv1-kernels.npy. Name a folder with libIFT kernels.")
    layers: list[LibiftLayer] = []
    while (path := folder / f"conv{len(layers) + 1}-kernels.npy").is_file() and len(layers) < MOST_LAYERS:
        shape = shapes[len(layers)] if len(layers) < len(shapes) else ()
        layers.append(_read_layer(path, channels, shape, dims, order))
        channels = len(layers[-1].weight)
    return layers


def first_channels(folder: Path, shape: Sequence[int]) -> int:
    """Channels of the images that a folder's first layer was learned on, by the size of its kernels."""
    path = folder / "conv1-kernels.npy"
    if not path.is_file():
        raise BadFile(folder, "has no conv1-kernels.npy. Name a folder with libIFT kernels.")
    rows = len(_read_matrix(path))
    if not shape or rows % prod(shape):
        raise BadFile(path, f"has {rows} rows, which kernels of {' x '.join(map(str, shape))} do not divide.")
    return rows // prod(shape)


def _read_layer(path: Path, channels: int, shape: Sequence[int], dims: int, order: Order) -> LibiftLayer:
    matrix = _read_matrix(path)
    shape = shape or _cube(path, len(matrix), channels, dims)
    if len(matrix) != prod(shape) * channels:
        size = " x ".join(map(str, shape))
        raise BadFile(
            path, f"has {len(matrix)} rows; kernels of {size} over {channels} channels have {prod(shape) * channels}."
        )
    count = matrix.shape[1]
    stem = path.name.removesuffix("-kernels.npy")
    mean, std = (_read_channels(path.with_name(f"{stem}-{name}.txt"), channels) for name in ("mean", "stdev"))
    if std is not None and not (std > 0).all():
        raise BadFile(path.with_name(f"{stem}-stdev.txt"), "holds a value that is not above zero. Learn it again.")
    bias = _read_values(path.with_name(f"{stem}-bias.txt"))
    if bias is not None and len(bias) != count:
        raise BadFile(path.with_name(f"{stem}-bias.txt"), f"has {len(bias)} values for {count} kernels.")
    return LibiftLayer(
        from_matrix(matrix, channels, shape, order),
        np.zeros(count, np.float32) if bias is None else bias,
        np.zeros(channels, np.float32) if mean is None else mean,
        np.ones(channels, np.float32) if std is None else std,
    )


def _read_matrix(path: Path) -> np.ndarray:
    """A finite real matrix from a .npy file. Raises BadFile for anything else."""
    data = _read_bytes(path)
    try:
        matrix = np.load(BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, OverflowError, MemoryError, TypeError, KeyError) as error:
        raise BadFile(path, f"is no .npy file of plain numbers ({error}). Copy it again.") from error
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or 0 in matrix.shape or matrix.dtype.kind not in "fiu":
        found = f"{matrix.shape} {matrix.dtype}" if isinstance(matrix, np.ndarray) else "an archive"
        raise BadFile(path, f"holds {found}, wanted a matrix of (weights, kernels).")
    if not np.isfinite(matrix).all():
        raise BadFile(path, "holds weights that are NaN or infinite. Learn them again.")
    return matrix.astype(np.float32)


def _read_channels(path: Path, channels: int) -> np.ndarray | None:
    """One value a channel, None where there is no file; one for each weight of a patch where a channel's are equal."""
    values = _read_values(path)
    if values is None or len(values) == channels:
        return values
    if len(values) % channels == 0:
        table = values.reshape(-1, channels)
        if np.allclose(table, table[0], rtol=1e-5, atol=1e-7):
            return np.array(table[0])
        raise BadFile(
            path,
            f"has other values for each place of a patch; a layer has one for each of its {channels} channels. "
            "Export the kernels with the normalization folded into them and the bias.",
        )
    raise BadFile(path, f"has {len(values)} values for {channels} channels.")


def _read_values(path: Path) -> np.ndarray | None:
    """The numbers of a text file, with or without their count in the first line; None where there is no file."""
    if not path.exists():
        return None
    first, _, rest = _read_bytes(path).strip().partition(b"\n")
    counted = first.strip().isdigit() and bool(rest)
    try:
        values = np.array([float(word) for word in (rest if counted else first + b"\n" + rest).split()], np.float32)
    except ValueError as error:
        raise BadFile(path, f"holds {str(error)[:60]!r}, wanted a count and then so many numbers.") from error
    if counted and len(values) != int(first[:20]):
        raise BadFile(path, f"says {first[:20].decode()} values and holds {len(values)}. Copy it again.")
    if not np.isfinite(values).all() or len(values) == 0:
        raise BadFile(path, "holds no finite numbers. Copy it again.")
    return values


def _read_bytes(path: Path) -> bytes:
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise BadFile(path, f"is no regular file of less than {MAX_BYTES} bytes. Copy it again.")
        return path.read_bytes()
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror}). Check its permissions.") from error


def _cube(path: Path, rows: int, channels: int, dims: int) -> tuple[int, ...]:
    side = round((rows / channels) ** (1 / dims))
    if side**dims * channels != rows or side % 2 == 0:
        raise BadFile(
            path,
            f"has {rows} rows, which are no {dims}-D kernels of equal odd sides over {channels} channels. "
            "Check the number of channels, or give the architecture.",
        )
    return (side,) * dims


def _as_text(values: np.ndarray) -> bytes:
    """The count in the first line, the values in the second: nine digits tell any two float32 apart."""
    return f"{len(values)}\n{' '.join(f'{value:.9g}' for value in values)}\n".encode()


def require_layers(found: Sequence[LibiftLayer], wanted: int, folder: Path) -> None:
    """Raise BadInput where a folder has another number of layers than the architecture."""
    if len(found) != wanted:
        raise BadInput(f"{folder} has kernels of {len(found)} layers, the architecture has {wanted} convolutions.")
