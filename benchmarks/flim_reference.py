"""FLIM's estimation as its papers and its code describe it, with NumPy, scikit-image and scikit-learn alone.

This file is the peer of `bench_kernels`. It stays as it is: zero padding, one k-means for each marker, centers of
unit length; its patches are taken from a view of windows, without copying all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FROM_RGB = np.array(
    [
        [0.4123955890, 0.3575834308, 0.1804926474],
        [0.2125862308, 0.7151703037, 0.0722004986],
        [0.0192972155, 0.1191838646, 0.9504971251],
    ],
    np.float32,
)


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution, ReLU and max pooling; `out` is None for as many kernels as there are."""

    size: int
    per_marker: int
    out: int | None = None
    pool: int = 1


@dataclass(frozen=True, slots=True)
class Learned:
    """One layer's statistics (C,), its kernels (K, D), the patches (N, D) that they are of and their inertia."""

    mean: np.ndarray
    std: np.ndarray
    kernels: np.ndarray
    patches: np.ndarray
    inertia: float


def read_lab(path: Path) -> np.ndarray:
    """(y, x, 3) float32: FLIM's L*a*b* in about 0..1."""
    from skimage.io import imread

    raw = imread(path)[..., :3]
    rgb = raw.astype(np.float32) / np.float32(np.iinfo(raw.dtype).max)
    xyz = rgb @ FROM_RGB.T / np.array([0.950456, 1, 1.088754], np.float32)
    bent = np.where(xyz >= (6 / 29) ** 3, np.cbrt(xyz), np.float32(841 / 108) * xyz + np.float32(4 / 29))
    lightness = (116 * bent[..., 1] - 16) / 99.998337
    a = (500 * (bent[..., 0] - bent[..., 1]) + 86.182236) / (86.182236 + 98.258614)
    b = (200 * (bent[..., 1] - bent[..., 2]) + 107.867744) / (107.867744 + 94.481682)
    return np.stack([lightness, a, b], axis=-1).astype(np.float32)


def windows(image: np.ndarray, places: np.ndarray, size: int) -> np.ndarray:
    """(N, size * size * C) patches around (N, 2) y, x, channels last."""
    from skimage.util import view_as_windows

    reach = size // 2
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)))
    view = view_as_windows(padded, (size, size, image.shape[2]))[:, :, 0]
    return np.ascontiguousarray(view[places[:, 0], places[:, 1]].reshape(len(places), -1))


def cluster(patches: np.ndarray, markers: np.ndarray, per_marker: int, n_init: int) -> tuple[np.ndarray, float]:
    """Centers of unit length, marker by marker, and the sum of the inertias."""
    from sklearn.cluster import KMeans

    centers, inertia = [], 0.0
    for marker in np.unique(markers):
        own = patches[markers == marker]
        if len(own) > per_marker:
            model = KMeans(per_marker, max_iter=100, tol=1e-3, n_init=n_init, random_state=42).fit(own)
            own, inertia = model.cluster_centers_, inertia + model.inertia_
        centers.append(own)
    return unit(np.concatenate(centers)), inertia


def unit(kernels: np.ndarray) -> np.ndarray:
    divided: np.ndarray = kernels / (np.linalg.norm(kernels, axis=1, keepdims=True) + 1e-6)
    return divided


def reduce(kernels: np.ndarray, out: int, n_init: int) -> np.ndarray:
    """Principal components where there are more kernels than numbers in one, else centers of clusters."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    if kernels.shape[1] < len(kernels):
        return unit(PCA(min(out, *kernels.shape)).fit(kernels).components_)
    if out < len(kernels):
        return unit(KMeans(out, max_iter=100, tol=1e-3, n_init=n_init, random_state=42).fit(kernels).cluster_centers_)
    return kernels


def propagate(image: np.ndarray, learned: Learned, layer: Layer) -> np.ndarray:
    """(y, x, C) to (y / pool, x / pool, K)."""
    from torch import from_numpy, inference_mode
    from torch.nn import functional

    channels = image.shape[2]
    weight = learned.kernels.reshape(-1, layer.size, layer.size, channels).transpose(0, 3, 1, 2)
    standardized = ((image - learned.mean) / learned.std).transpose(2, 0, 1)
    with inference_mode():
        kernels = from_numpy(np.ascontiguousarray(weight, np.float32))
        x = functional.conv2d(from_numpy(np.ascontiguousarray(standardized))[None], kernels, padding=layer.size // 2)
        x = functional.max_pool2d(x.relu_(), layer.pool) if layer.pool > 1 else x.relu_()
    return np.ascontiguousarray(x[0].numpy().transpose(1, 2, 0))


def fit(
    paths: Sequence[Path],
    places: Sequence[np.ndarray],
    markers: Sequence[np.ndarray],
    layers: Sequence[Layer],
    *,
    n_init: int,
) -> list[Learned]:
    """Learn the layers one after the other.

    Args:
        paths: Images.
        places: (N, 2) y, x of the marked pixels of each.
        markers: (N,) the marker of each of these.
        layers: What is learned.
        n_init: Starts of each k-means.
    """
    maps, learned = [read_lab(path) for path in paths], []
    joined = np.concatenate(markers)
    for number, layer in enumerate(layers):
        seen = np.concatenate([x[at[:, 0], at[:, 1]] for x, at in zip(maps, places, strict=True)])
        mean, std = seen.mean(axis=0), seen.std(axis=0) + np.float32(1e-3)
        parts = [windows((x - mean) / std, at, layer.size) for x, at in zip(maps, places, strict=True)]
        patches = np.concatenate(parts)
        kernels, inertia = cluster(patches, joined, layer.per_marker, n_init)
        if layer.out is not None:
            kernels = reduce(kernels, layer.out, n_init)
        learned.append(Learned(mean, std, kernels, patches, inertia))
        if number + 1 < len(layers):
            maps = [propagate(x, learned[-1], layer) for x in maps]
            places = [
                np.minimum(at // layer.pool, np.array(x.shape[:2]) - 1) for x, at in zip(maps, places, strict=True)
            ]
    return learned
