"""Markers of volumes against scipy's labeling of connected pieces."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from fieldmark.learn.pieces import pieces_of
from fieldmark.learn.samples import Marks


def marks_of(volumes: list[np.ndarray]) -> Marks:
    """Marked voxels of (z, y, x) volumes of classes from 1; each connected piece of a slice is a stroke."""
    rows, strokes = [], 0
    for image, volume in enumerate(volumes):
        for klass in range(1, volume.max(initial=0) + 1):
            for z, plane in enumerate(volume):
                pieces, count = label(plane == klass, np.ones((3, 3)))
                rows += [(image, 0, z, y, x, strokes + pieces[y, x], klass - 1) for y, x in np.argwhere(pieces)]
                strokes += count
    table = np.array(rows, np.int64).reshape(-1, 7)
    order = np.random.default_rng(0).permutation(len(table))
    table = table[order]
    return Marks(table[:, 0], table[:, 1:5], table[:, 5], table[:, 6])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.02, 0.08, 0.2])
def test_pieces_of_volumes_are_those_of_26_neighbors(seed, share):
    rng = np.random.default_rng(seed)
    volumes = [np.where(rng.random((5, 7, 6)) < share, rng.integers(1, 3, (5, 7, 6)), 0) for _ in range(2)]
    marks = marks_of(volumes)
    wanted, count = [], 0
    for image, volume in enumerate(volumes):
        for klass in (1, 2):
            pieces, found = label(volume == klass, np.ones((3, 3, 3)))
            wanted.append((image, klass - 1, pieces, count))
            count += found
    truth = np.full(len(marks), -1)
    for image, klass, pieces, before in wanted:
        rows = (marks.image == image) & (marks.klass == klass)
        truth[rows] = before + pieces[tuple(marks.place[rows, 1:].T)]
    found = pieces_of(marks, 3)
    assert len(set(zip(found.tolist(), truth.tolist(), strict=True))) == len(set(truth.tolist())) == len(set(found))
    for piece in np.unique(found):
        assert piece == marks.stroke[found == piece].min()


def test_strokes_of_images_are_their_markers():
    marks = marks_of([np.ones((2, 3, 3), np.int64)])
    assert np.array_equal(pieces_of(marks, 2), marks.stroke)
    assert len(set(pieces_of(Marks.none(), 3))) == 0
