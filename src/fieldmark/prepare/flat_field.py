"""Uneven illumination as a smooth surface, one for each channel, that is divided out.

A grid (see `prepare.light`), or a polynomial as microDL has it, but on scaled coordinates: the mean image of the data
set, medians of its blocks, a polynomial through them by least squares, over its mean.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.errors import BadFile, BadInput

MOST_SIDE = 128
"""A surface from a file that is no polynomial is kept as a grid of at most this side."""
LARGEST = 1 << 26
"""Pixels of a field of view; larger images were put together, and their light is not one field's."""
_FITS = 1e-4
"""Largest relative difference from a polynomial that counts as one."""

Surface = dict[str, Any]


def fit_surface(image: np.ndarray, *, block: int = 32, order: int = 2) -> Surface:
    """A polynomial in y and x through the block medians of an image, over its mean.

    Args:
        image: (y, x), the mean of many images.
        block: Side of the blocks in pixels; smaller ones at the far ends count too.
        order: Highest power of y, and of x.

    Returns:
        `{"coefficients": [[...]]}`: row n, column m belongs to v^n u^m, where v and u are y and x scaled to -1..1.

    Raises:
        BadInput: The surface is not positive everywhere, or the image is too small for the order.
    """
    y, x = image.shape
    rows, columns = _edges(y, block), _edges(x, block)
    if min(len(rows), len(columns)) <= order:
        raise BadInput(
            f"prepare.flat_field: images of {x} x {y} pixels have too few blocks of {block} pixels for a polynomial of "
            f"order {order}. Set prepare.flat_field.block to {max(1, min(y, x) // (2 * order + 2))} or less."
        )
    medians = np.array([_medians(image[a:b], block) for a, b in rows])
    v, u = (scaled(np.array([(a + b - 1) / 2 for a, b in edges]), n) for edges, n in ((rows, y), (columns, x)))
    return _polynomial(medians, v, u, order, (y, x))


def require_field(sizes: Collection[tuple[int, ...]]) -> tuple[int, int]:
    """The one size (y, x) of images that share their light. Raises BadInput for several, or for one too large."""
    if len(sizes) > 1:
        one, other = sorted(sizes)[:2]
        raise BadInput(
            f"prepare.flat_field: teaching images are {one[1]} x {one[0]} and {other[1]} x {other[0]} pixels; one "
            "illumination belongs to one size. Fit on images of one camera, or give surfaces from files."
        )
    y, x = next(iter(sizes))
    if y * x > LARGEST:
        raise BadInput(
            f"prepare.flat_field: images are {x} x {y} pixels, which no camera takes at once. Fit on fields of view."
        )
    return y, x


def surface_of_file(file: Path, *, shown: str = "") -> Surface:
    """A surface that another program saved, `flat-field_channel-C.npy`, (y, x), over its mean.

    One that is a polynomial of order 2 (as microDL's are) is kept as one, any other as a grid.

    Raises:
        BadFile: It is no such file, or not positive everywhere.
    """
    try:
        field = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadFile(
            shown or file, f"cannot be read as a NumPy array ({error}). Save the flat field again."
        ) from error
    if field.ndim != 2 or field.dtype.kind not in "fiu" or not np.isfinite(field).all() or field.min() <= 0:
        raise BadFile(
            shown or file, f"is {field.dtype} of shape {field.shape}; a flat field is (y, x), positive everywhere."
        )
    field = field / field.mean()
    y, x = field.shape
    v, u = scaled(np.arange(y), y), scaled(np.arange(x), x)
    if min(y, x) > 2:
        found = _polynomial(field, v, u, 2, (y, x))
        if np.abs(surface_at(found, np.arange(y), np.arange(x), (y, x)) / field - 1).max() < _FITS:
            return found
    rows, columns = (np.unique(np.linspace(0, n - 1, min(n, MOST_SIDE)).round().astype(int)) for n in (y, x))
    return {"grid": field[np.ix_(rows, columns)].tolist(), "v": v[rows].tolist(), "u": u[columns].tolist()}


def grid_surface(light: np.ndarray, rows: np.ndarray, columns: np.ndarray, size: tuple[int, int]) -> Surface:
    """A surface that is known as means of cells; beyond the middles of the outer ones it goes straight on.

    Args:
        light: (y, x), a value for each cell.
        rows: Where they begin along y, and where the last one ends.
        columns: The same along x.
        size: (y, x) of the planes in pixels.

    Raises:
        BadInput: It is not positive everywhere.
    """
    middles = [(edges[:-1] + edges[1:] - 1) / 2 for edges in (rows, columns)]
    v, u = (scaled(_straight(at), side) for at, side in zip(middles, size, strict=True))
    grid = (_straight(light) / light.mean()).round(6)
    found = {"grid": grid.tolist(), "v": v.tolist(), "u": u.tolist()}
    # where a surface bends or ends within the plane: what it is beyond, no pixel is divided by
    y, x = (np.concatenate([[0], at, [side - 1]]) for at, side in zip(middles, size, strict=True))
    _require_positive(surface_at(found, y, x, size))
    return found


def _straight(values: np.ndarray) -> np.ndarray:
    """One more at each end of every axis, as far from the last as that from the one before it."""
    many = [(1, 1) if side > 1 else (0, 0) for side in values.shape]
    return np.pad(values, many, mode="reflect", reflect_type="odd")


def _require_positive(surface: np.ndarray) -> None:
    if not surface.min() > 0:
        raise BadInput(
            "prepare.flat_field: the illumination that was estimated is not positive everywhere. Images are too dark "
            "at their borders, or too few; lower prepare.flat_field.order (of blocks), or give surfaces from files."
        )


def surface_at(surface: Surface | None, y: np.ndarray, x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A surface at rows and columns of planes of `size`: (len(y), len(x)) float32; 1 where there is none."""
    if surface is None:
        return np.ones((len(y), len(x)), np.float32)
    v, u = scaled(y, size[0]), scaled(x, size[1])
    if "coefficients" in surface:
        table = np.asarray(surface["coefficients"], np.float64)
        return _on_grid(v, u, table)
    grid, own_v, own_u = (np.asarray(surface[name], np.float64) for name in ("grid", "v", "u"))
    along = np.stack([np.interp(u, own_u, row) for row in grid])
    found = np.stack([np.interp(v, own_v, column) for column in along.T], axis=1)
    surface_values: np.ndarray = found.astype(np.float32)
    return surface_values


def scaled(places: np.ndarray, size: int) -> np.ndarray:
    """Pixels of an axis to -1..1, its borders."""
    found: np.ndarray = (2 * np.asarray(places, np.float64) + 1) / size - 1
    return found


def _polynomial(values: np.ndarray, v: np.ndarray, u: np.ndarray, order: int, size: tuple[int, int]) -> Surface:
    down, across = (grid.ravel() for grid in np.meshgrid(v, u, indexing="ij"))
    terms = np.polynomial.polynomial.polyvander2d(down, across, [order, order])
    solved, *_ = np.linalg.lstsq(terms, values.ravel(), rcond=None)
    table = solved.reshape(order + 1, order + 1)
    full = np.polynomial.polynomial.polygrid2d(
        scaled(np.arange(size[0]), size[0]), scaled(np.arange(size[1]), size[1]), table
    )
    _require_positive(full)
    return {"coefficients": (table / full.mean()).tolist()}


def _on_grid(v: np.ndarray, u: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The polynomial at every pair of v and u, (len(v), len(u)) float32: exact down the rows, quick along them."""
    rows = np.polynomial.polynomial.polyval(v, table).astype(np.float32)
    across = u.astype(np.float32)
    found = np.repeat(rows[-1][:, None], len(u), axis=1)
    for row in rows[-2::-1]:
        found *= across
        found += row[:, None]
    return found


def _medians(band: np.ndarray, block: int) -> list[float]:
    """Of the blocks of a band of rows; the last one may be narrower."""
    full = band.shape[1] // block * block
    blocks = band[:, :full].reshape(len(band), -1, block).transpose(1, 0, 2).reshape(full // block, -1)
    found = np.median(blocks, axis=1).tolist() if full else []
    return found + ([float(np.median(band[:, full:]))] if full < band.shape[1] else [])


def _edges(size: int, block: int) -> list[tuple[int, int]]:
    return [(start, min(size, start + block)) for start in range(0, size, block)]
