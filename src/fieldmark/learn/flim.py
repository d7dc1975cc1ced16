"""Estimate the kernels of FLIM layers from marked pixels, layer after layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from fieldmark.core.seeds import derive_seed
from fieldmark.errors import NothingLabelled
from fieldmark.infer.forward import pad_to_stride
from fieldmark.learn.estimate import Estimate
from fieldmark.learn.kernels import cluster_markers, reduce_kernels
from fieldmark.learn.pixel_head import TILE, thin_marks

if TYPE_CHECKING:
    from fieldmark.core.geometry import Tile
    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net
    from fieldmark.models.flim import FlimBlock, FlimNet
    from fieldmark.recipes import FitRecipe, FlimLayer


def flim_layers(net: Net, samples: Samples, recipe: FitRecipe) -> Estimate:
    """The phase that learns one layer a step, each on what the layers before it see."""
    if len(samples.marks) == 0:
        raise NothingLabelled(
            "FLIM learns from strokes, and no image of this project holds one. Draw or import some "
            "(`fieldmark labels import`)."
        )
    branches = cast("FlimNet", net).config.branches
    steps = [(branch, layer) for branch, own in enumerate(branches) for layer in range(len(own.layers))]
    return Estimate("flim-layers", [_solver(branch, layer, samples, recipe.seed) for branch, layer in steps])


def _solver(branch: int, layer: int, samples: Samples, seed: int) -> Callable[[Net], dict[str, float]]:
    return lambda net: _learn_layer(cast("FlimNet", net), branch, layer, samples, seed)


def _learn_layer(net: FlimNet, branch: int, layer: int, samples: Samples, seed: int) -> dict[str, float]:
    config = net.config.branches[branch].layers[layer]
    rows = thin_marks(samples, net.config.max_patches_per_marker, derive_seed(seed, "flim"))
    patches, rows = marked_patches(net, branch, layer, samples, rows)
    markers = samples.marks.stroke[rows]
    mean, std = marker_statistics(patches[:, :, *_center(config)], markers, net.config.epsilon)
    standardized = (patches - mean[:, None, None]) / std[:, None, None]
    if config.centered:
        standardized -= standardized.mean(axis=(2, 3), keepdims=True)
    flat = standardized.reshape(len(patches), -1)
    place = (branch, layer)
    kernels = cluster_markers(flat, markers, config.kernels_per_marker, derive_seed(seed, "kernels", *place))
    kernels = reduce_kernels(kernels, config.out_channels, derive_seed(seed, "reduce", *place))
    _set(net.block(branch, layer), mean, std, kernels.weight.reshape(-1, *patches.shape[1:]))
    _trace(net.block(branch, layer), samples, rows[kernels.patch])
    return {"patches": float(len(patches)), "kernels": float(len(kernels.weight))}


def marker_statistics(values: np.ndarray, markers: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of each channel over marked pixels, every marker with the same voice.

    Args:
        values: (N, C) at the marked pixels.
        markers: (N,) the marker of each.
        epsilon: Part of the mean spread that is added, so that a constant channel divides by more than nothing.
    """
    _, inverse, counts = np.unique(markers, return_inverse=True, return_counts=True)
    weights = (1.0 / counts[inverse] / len(counts))[:, None]
    mean = (weights * values).sum(axis=0)
    std = np.sqrt((weights * (values - mean) ** 2).sum(axis=0))
    return mean, std + epsilon * std.mean() + 1e-6


def marked_patches(
    net: FlimNet, branch: int, layer: int, samples: Samples, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The patches that a layer sees under marks.

    Coordinates are brought to the layer's grid by integer division by its stride. Marks
    of one stroke that fall on one grid pixel give one patch.

    Returns:
        (N, C, k, k) float32 patches, and the (N,) rows of the marks that they stand for.
    """
    wanted = np.zeros(len(samples.marks), bool)
    wanted[rows] = True
    found, kept = [], []
    for index, tile, inside in samples.marked_tiles(tile=TILE, stride=net.stride, radius=net.radius):
        chosen = inside[wanted[inside]]
        if len(chosen):
            seen = _seen(net, branch, layer, samples, index, tile)
            at, first = _on_grid(samples, chosen, tile, net.stride_before(branch, layer))
            found.append(cut_patches(seen, at, net.config.branches[branch].layers[layer]))
            kept.append(chosen[first])
    return np.concatenate(found), np.concatenate(kept)


def cut_patches(seen: np.ndarray, at: np.ndarray, config: FlimLayer) -> np.ndarray:
    """(N, C, k, k) windows of (C, y, x), centered on (N, 2) y, x; borders continue by their nearest value."""
    reach = config.kernel_size // 2 * config.dilation
    window = np.arange(-reach, reach + 1, config.dilation)
    padded = np.pad(seen, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    y, x = at.T + reach
    return padded[:, y[:, None, None] + window[:, None], x[:, None, None] + window].swapaxes(0, 1)


def _seen(net: FlimNet, branch: int, layer: int, samples: Samples, index: int, tile: Tile) -> np.ndarray:
    prepared = pad_to_stride(samples.read(index, tile.read), net.stride)
    with torch.inference_mode():
        seen: np.ndarray = net.before(branch, layer, torch.from_numpy(prepared)[None])[0].numpy()
    return seen


def _on_grid(samples: Samples, chosen: np.ndarray, tile: Tile, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) y, x on the layer's grid without repetitions in a stroke, and which marks they stand for."""
    at = (samples.marks.place[chosen, 2:] - np.array(tile.read.start[2:])) // stride
    _, first = np.unique(np.column_stack([samples.marks.stroke[chosen], at]), axis=0, return_index=True)
    first.sort()
    return at[first], first


def _center(config: FlimLayer) -> tuple[int, int]:
    return config.kernel_size // 2, config.kernel_size // 2


def _set(block: FlimBlock, mean: np.ndarray, std: np.ndarray, weight: np.ndarray) -> None:
    block.mean = torch.from_numpy(mean.astype(np.float32))
    block.std = torch.from_numpy(std.astype(np.float32))
    block.weight = torch.from_numpy(weight.astype(np.float32))
    block.bias = torch.zeros(len(weight))


def _trace(block: FlimBlock, samples: Samples, rows: np.ndarray) -> None:
    """Remember the stroke and the pixel (image, t, z, y, x) that each kernel came from."""
    marks = samples.marks
    block.stroke = torch.from_numpy(marks.stroke[rows])
    block.place = torch.from_numpy(np.column_stack([marks.image[rows], marks.place[rows]]))
