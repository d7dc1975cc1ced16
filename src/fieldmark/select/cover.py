"""Which few images stand for many: numpy in, order out."""

from __future__ import annotations

import numpy as np

from fieldmark.core.seeds import derive_seed
from fieldmark.errors import BadInput


def k_center(vectors: np.ndarray, count: int, *, chosen: np.ndarray | None = None) -> np.ndarray:
    """Cover the space: each next image is the one farthest from all that were chosen (Gonzalez 1985).

    The farthest image is then at most twice as far from a chosen one as the best choice of `count` could make it. The
    first is the image nearest to the mean.

    Args:
        vectors: (N, F) real, one row an image.
        count: How many to choose; all where there are fewer.
        chosen: Places that are chosen already, such as images that are marked; they are not returned.

    Returns:
        Places of the chosen images, in order of choice. Ties go to the first.
    """
    rows = _rows(vectors)
    given = [] if chosen is None else [int(place) for place in chosen]
    far = np.full(len(rows), np.inf)
    for place in given:
        far = np.minimum(far, _distances(rows, rows[place]))
    order: list[int] = []
    far[given] = -1.0
    while len(order) < min(count, len(rows) - len(given)):
        begins = not order and not given
        place = int(_distances(rows, rows.mean(axis=0)).argmin()) if begins else int(far.argmax())
        order.append(place)
        far = np.minimum(far, _distances(rows, rows[place]))
        far[order] = -1.0
    return np.array(order, np.int64)


def nearest_to_means(vectors: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Typical images: k-means with `count` clusters, then the image nearest to each center.

    Args:
        vectors: (N, F) real, one row an image.
        count: How many to choose; all where there are fewer.
        seed: Of k-means.

    Returns:
        Places of the chosen images, those of the largest clusters first.
    """
    rows = _rows(vectors)
    if len(rows) <= count:
        return np.arange(len(rows))
    from sklearn.cluster import KMeans

    found = KMeans(count, n_init=4, random_state=seed % (1 << 32)).fit(rows)
    largest = np.argsort(-np.bincount(found.labels_, minlength=count), kind="stable")
    taken: list[int] = []
    for cluster in largest:
        far = _distances(rows, found.cluster_centers_[cluster])
        far[taken] = np.inf
        taken.append(int(far.argmin()))
    return np.array(taken, np.int64)


def at_random(total: int, count: int, *, seed: int) -> np.ndarray:
    """`count` of `total` places (all where there are fewer), in a random order that the seed decides."""
    return np.random.default_rng(seed).permutation(total)[:count]


def per_class(vectors: np.ndarray, classes: np.ndarray, count: int, *, how: str, seed: int) -> np.ndarray:
    """Choose `count` images in each class.

    Args:
        vectors: (N, F) real, one row an image.
        classes: (N,) the class of each.
        count: How many in each class.
        how: `kmeans`, `random` or `cover`.
        seed: Decides draws, those of each class apart: classes that are listed alike do not give the same places.

    Returns:
        Places of the chosen images, class after class.
    """
    if how not in ("kmeans", "random", "cover"):
        raise BadInput(f"There is no way {how!r} to choose images. Use kmeans, random or cover.")
    chosen = [np.zeros(0, np.int64)]
    for klass in np.unique(classes):
        own = np.flatnonzero(classes == klass)
        drawn = derive_seed(seed, "class", int(klass)) if how == "random" else seed
        chosen.append(own[_pick(np.asarray(vectors)[own], count, how, drawn)])
    return np.concatenate(chosen)


def _pick(vectors: np.ndarray, count: int, how: str, seed: int) -> np.ndarray:
    if how == "random":
        return at_random(len(vectors), count, seed=seed)
    return k_center(vectors, count) if how == "cover" else nearest_to_means(vectors, count, seed=seed)


def _rows(vectors: np.ndarray) -> np.ndarray:
    rows = np.asarray(vectors, np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise BadInput(f"Choosing needs a table (images, features) of finite numbers; found shape {rows.shape}.")
    return rows


def _distances(rows: np.ndarray, to: np.ndarray) -> np.ndarray:
    """(N,) Euclidean distances of rows to one vector."""
    distances: np.ndarray = np.sqrt(((rows - to) ** 2).sum(axis=1))
    return distances
