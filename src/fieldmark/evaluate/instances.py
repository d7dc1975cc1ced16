"""How well single objects are found: average precision, panoptic quality, splits and merges; objects from masks.

Objects are integers in a label map, 0 where there is none. A predicted object and a true one fit where their
intersection over union is more than a threshold of at least one half: so no object fits two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldmark.errors import BadInput

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""0.5, 0.55, ... 0.95: those of the Data Science Bowl 2018."""
METRICS = ("ap50", "ap75", "ap", "pq", "sq", "rq", "vi_split", "vi_merge")
"""`ap` is the mean over `THRESHOLDS`; `vi_*` are bits, less is better; all others lie in 0..1."""

NECK = 0.85
"""Two basins are one object where the way between their middles never narrows below this share of the smaller one."""
_SMOOTH = 1.0
"""Sigma in pixels of the distance's smoothing: ragged borders have many false middles."""

Scores = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Fits:
    """How the objects of two label maps overlap: what all ratios of an image are made of."""

    predicted: int
    """Objects predicted; those that fit nothing and lie mostly where nobody knows the truth are not counted."""
    true: int
    iou: np.ndarray
    """(N,) float64, the intersection over union of each pair that overlaps by more than one half."""

    def right(self, threshold: float) -> int:
        """Pairs that fit at a threshold."""
        return int((self.iou > threshold).sum())


def find_fits(prediction: np.ndarray, truth: np.ndarray, unknown: np.ndarray | None = None) -> Fits:
    """Which objects of two label maps fit.

    Args:
        prediction: Integers of any shape, 0 where there is no object.
        truth: Integers of the same shape.
        unknown: Bool of the same shape, True where nobody knows the truth: left out, and with it those
            predicted objects that fit nothing and of which at least half lies there.

    Raises:
        BadInput: Shapes differ.
    """
    _require_same(prediction, truth, unknown)
    inside = np.ones(truth.shape, bool) if unknown is None else ~unknown
    known = prediction[inside], truth[inside]
    (said, size_said), (right, size_right) = (np.unique(part, return_counts=True) for part in known)
    pairs, shared = _overlaps(*known)
    size_a = size_said[np.searchsorted(said, pairs[:, 0])]
    size_b = size_right[np.searchsorted(right, pairs[:, 1])]
    iou = shared / (size_a + size_b - shared)
    fit = iou > THRESHOLDS[0]
    counted = _mostly(prediction, inside) | set(pairs[fit, 0].tolist())
    return Fits(len(counted), int((right > 0).sum()), iou[fit])


def _require_same(prediction: np.ndarray, truth: np.ndarray, unknown: np.ndarray | None) -> None:
    for name, other in (("truth", truth), ("unknown", unknown)):
        if other is not None and other.shape != prediction.shape:
            raise BadInput(
                f"The prediction has shape {prediction.shape}, but {name} has {other.shape}. "
                "Compare maps of the same image and size."
            )


def _overlaps(said: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) pairs of objects that share pixels, and (N,) how many."""
    both = (said > 0) & (right > 0)
    labels_a, place_a = np.unique(said[both], return_inverse=True)
    labels_b, place_b = np.unique(right[both], return_inverse=True)
    codes, shared = np.unique(place_a.astype(np.int64) * max(len(labels_b), 1) + place_b, return_counts=True)
    a, b = np.divmod(codes, max(len(labels_b), 1))
    return np.stack([labels_a[a], labels_b[b]], axis=1), shared


def _mostly(prediction: np.ndarray, inside: np.ndarray) -> set[int]:
    """Predicted objects of which more than half lies where the truth is known."""
    labels, place, whole = np.unique(prediction, return_inverse=True, return_counts=True)
    seen = np.bincount(place.ravel(), weights=inside.ravel(), minlength=len(labels))
    return set(labels[(labels > 0) & (2 * seen > whole)].tolist())


def average_precision(fits: Fits, threshold: float) -> float | None:
    """Right / (right + extra + missed) at one threshold, as in the Data Science Bowl; None where there is no object."""
    right = fits.right(threshold)
    return _ratio(right, fits.predicted + fits.true - right)


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def panoptic_quality(fits: Fits) -> tuple[float | None, float | None, float | None]:
    """PQ and its factors: SQ, the mean overlap of objects that fit at 0.5, and RQ, their F1."""
    right = fits.right(0.5)
    total = float(fits.iou[fits.iou > 0.5].sum())
    half = (fits.predicted + fits.true) / 2
    return _ratio(total, half), _ratio(total, right), _ratio(right, half)


def variation(
    prediction: np.ndarray, truth: np.ndarray, unknown: np.ndarray | None = None
) -> tuple[float, float] | None:
    """Variation of information in bits: (splits, merges), less is better; None where there is no true object.

    Only pixels of true objects count, and every predicted object is first grown to its neighbors, so that a border
    that is drawn a little wider or thinner costs nothing: this asks how space is parted, not where borders lie.

    Args:
        prediction: (y, x) or (z, y, x) integers, 0 where there is no object.
        truth: Integers of the same shape.
        unknown: Bool of the same shape: pixels left out.
    """
    from skimage.metrics import variation_of_information

    _require_same(prediction, truth, unknown)
    inside = (truth > 0) if unknown is None else (truth > 0) & ~unknown
    if not inside.any():
        return None
    # the library counts in a table as wide as the largest number, so numbers without gaps are given to it
    right, said = (np.unique(part[inside], return_inverse=True)[1].ravel() for part in (truth, _grown(prediction)))
    splits, merges = variation_of_information(right, said)
    return max(0.0, float(splits)), max(0.0, float(merges))


def _grown(labels: np.ndarray) -> np.ndarray:
    """Every pixel to its nearest object."""
    from scipy.ndimage import distance_transform_edt

    if not labels.any() or labels.all():
        return labels
    nearest = distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    grown: np.ndarray = labels[tuple(nearest)]
    return grown


def score_objects(prediction: np.ndarray, truth: np.ndarray, unknown: np.ndarray | None = None) -> Scores:
    """All `METRICS` of one image, plane or volume; None where one does not exist.

    Args:
        prediction: Integers, (y, x) or (z, y, x), 0 where there is no object.
        truth: Integers of the same shape.
        unknown: Bool of the same shape, True where nobody knows the truth.

    Raises:
        BadInput: Shapes differ.
    """
    fits = find_fits(prediction, truth, unknown)
    each = {threshold: average_precision(fits, threshold) for threshold in THRESHOLDS}
    known = [value for value in each.values() if value is not None]
    pq, sq, rq = panoptic_quality(fits)
    splits, merges = variation(prediction, truth, unknown) or (None, None)
    return {
        "ap50": each[0.5],
        "ap75": each[0.75],
        "ap": float(np.mean(known)) if known else None,
        "pq": pq,
        "sq": sq,
        "rq": rq,
        "vi_split": splits,
        "vi_merge": merges,
    }


def objects_of(mask: np.ndarray, split: int = 0, min_area: int = 0) -> np.ndarray:
    """Number the objects of a mask from 1; pixels touch by corners too.

    The rule is that of `fieldmark predict --instances`, on an image that is in memory: with a split, objects are the
    basins around the middles of the distance to the border, and basins with no neck between them are one.

    Args:
        mask: (y, x) or (z, y, x) bool.
        split: Least distance in pixels between the middles of objects that touch; 0 to leave them together.
        min_area: Connected parts of fewer pixels are background.

    Returns:
        int32 labels of the mask's shape, 0 outside.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter
    from skimage.feature import peak_local_max
    from skimage.measure import label
    from skimage.segmentation import watershed

    whole: np.ndarray = label(mask, connectivity=mask.ndim).astype(np.int32)
    if min_area > 1:
        mask = mask & (np.bincount(whole.ravel())[whole] >= min_area)
        whole = label(mask, connectivity=mask.ndim).astype(np.int32)
    if not split or not mask.any():
        return whole
    depth = np.where(mask, gaussian_filter(distance_transform_edt(mask), _SMOOTH), 0.0)
    middles = peak_local_max(depth, min_distance=split, labels=mask.astype(np.int32), exclude_border=False)
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(middles.T)] = np.arange(1, len(middles) + 1)
    basins = watershed(-depth, markers, connectivity=mask.ndim, mask=mask)
    # an object too small for a middle of its own is an object nevertheless
    basins = np.where(mask & (basins == 0), whole + len(middles), basins)
    return _joined(basins, depth)


def _joined(basins: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Basins with no neck between them made one; numbered from 1 without a gap."""
    from scipy.ndimage import maximum
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = int(basins.max()) + 1
    tops = np.asarray(maximum(depth, basins, np.arange(count)))
    pairs, passes = _passes(basins, depth)
    wide = passes >= NECK * np.minimum(tops[pairs[:, 0]], tops[pairs[:, 1]])
    edges = pairs[wide]
    graph = coo_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, owner = connected_components(graph, directed=False)
    owners = owner[basins]
    owners[basins == 0] = -1
    _, numbered = np.unique(owners, return_inverse=True)
    first = int(bool((basins > 0).all()))  # with no background, the first number is an object's
    joined: np.ndarray = (numbered.reshape(basins.shape) + first).astype(np.int32)
    return joined


def _passes(basins: np.ndarray, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) pairs of basins that touch, and (N,) the deepest way between them."""
    found: dict[tuple[int, int], float] = {}
    for axis in range(basins.ndim):
        side = basins.shape[axis]
        one, other = basins.take(range(side - 1), axis), basins.take(range(1, side), axis)
        touching = (one != other) & (one > 0) & (other > 0)
        least = np.minimum(depth.take(range(side - 1), axis), depth.take(range(1, side), axis))[touching]
        for a, b, height in zip(one[touching].tolist(), other[touching].tolist(), least.tolist(), strict=True):
            pair = (min(a, b), max(a, b))
            found[pair] = max(found.get(pair, 0.0), height)
    pairs = np.array(list(found), np.int64).reshape(-1, 2)
    return pairs, np.array(list(found.values()), np.float64)
