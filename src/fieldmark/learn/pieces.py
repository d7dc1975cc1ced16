"""Which strokes are one marker: in a volume, those that go on from slice to slice."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from fieldmark.learn.samples import Marks


def pieces_of(marks: Marks, spatial: int) -> np.ndarray:
    """(N,) the marker of each mark: its stroke, or in a volume the first of all strokes that it is connected with.

    Strokes are kept slice by slice. Two of one class whose pixels touch in neighboring slices, by a face, an edge or a
    corner, are one marker (FLIM's 26 neighbors).

    Args:
        marks: Of all images.
        spatial: 2 for images, whose markers are their strokes; 3 for volumes.
    """
    if spatial == 2 or len(marks) == 0:
        return marks.stroke
    strokes, own = np.unique(marks.stroke, return_inverse=True)
    pairs = np.concatenate([_touching(marks, own, step) for step in product((-1, 0, 1), (-1, 0, 1))])
    links = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(strokes),) * 2)
    _, piece = connected_components(links, directed=False)
    first = np.full(piece.max() + 1, len(strokes))
    np.minimum.at(first, piece, np.arange(len(strokes)))
    found: np.ndarray = strokes[first[piece]][own]
    return found


def _touching(marks: Marks, own: np.ndarray, step: tuple[int, int]) -> np.ndarray:
    """(P, 2) strokes of one class that meet: a pixel of the second lies a slice farther, `step` (y, x) beside."""
    size = marks.place.max(axis=0) + 3  # so that a step beyond the border meets nothing
    here = [marks.image, marks.klass, *(marks.place + 1).T]
    shape = (marks.image.max() + 1, marks.klass.max() + 1, *size)
    keys = np.ravel_multi_index(here, shape)
    there = np.ravel_multi_index([*here[:3], here[3] + 1, here[4] + step[0], here[5] + step[1]], shape)
    order = np.argsort(keys, kind="stable")
    at = np.searchsorted(keys[order], there).clip(max=len(keys) - 1)
    met = keys[order][at] == there
    return np.column_stack([own[met], own[order][at[met]]])
