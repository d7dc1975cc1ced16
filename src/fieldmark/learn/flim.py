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
    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net
    from fieldmark.models.flim import FlimBlock, FlimNet
    from fieldmark.recipes import FitRecipe


def flim_layers(net: Net, samples: Samples, recipe: FitRecipe) -> Estimate:
    """The phase that learns one layer a step, each on what the layers before it see."""
    if len(samples.marks) == 0:
        raise NothingLabelled(
            "FLIM learns from strokes, and no image of this project holds one. Draw or import some "
            "(`fieldmark labels import`)."
        )
    flim = cast("FlimNet", net)
    return Estimate("flim-layers", [_solver(layer, samples, recipe.seed) for layer in range(len(flim.blocks))])


def _solver(layer: int, samples: Samples, seed: int) -> Callable[[Net], dict[str, float]]:
    return lambda net: _learn_layer(cast("FlimNet", net), layer, samples, seed)


def _learn_layer(net: FlimNet, layer: int, samples: Samples, seed: int) -> dict[str, float]:
    block = cast("FlimBlock", net.blocks[layer])
    config = net.config.layers[layer]
    rows = thin_marks(samples, net.config.max_patches_per_marker, derive_seed(seed, "flim", layer))
    patches, rows = marked_patches(net, layer, samples, rows)
    strokes = samples.marks.stroke[rows]

    values = patches[:, :, config.kernel_size // 2, config.kernel_size // 2]
    mean, std = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64) + net.config.epsilon
    standardized = ((patches - mean[:, None, None]) / std[:, None, None]).reshape(len(patches), -1)
    kernels = cluster_markers(standardized, strokes, config.kernels_per_marker, derive_seed(seed, "kernels", layer))
    kernels = reduce_kernels(kernels, config.out_channels, derive_seed(seed, "reduce", layer))

    origin = rows[kernels.patch]
    shape = (-1, *patches.shape[1:])
    block.mean = torch.from_numpy(mean.astype(np.float32))
    block.std = torch.from_numpy(std.astype(np.float32))
    block.weight = torch.from_numpy(kernels.weight.reshape(shape).astype(np.float32))
    block.bias = torch.zeros(len(kernels.weight))
    block.stroke = torch.from_numpy(samples.marks.stroke[origin])
    block.place = torch.from_numpy(
        np.concatenate([samples.marks.image[origin, None], samples.marks.place[origin]], axis=1)
    )
    return {"patches": float(len(patches)), "kernels": float(len(kernels.weight))}


def marked_patches(net: FlimNet, layer: int, samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The patches that `layer` sees under marks.

    Coordinates are brought to the layer's grid by integer division by its stride. Marks
    of one stroke that fall on one grid pixel give one patch.

    Returns:
        (N, C, k, k) float32 patches, and the (N,) rows of the marks that they stand for.
    """
    stride = net.stride_before(layer)
    config = net.config.layers[layer]
    reach = config.kernel_size // 2 * config.dilation
    window = np.arange(-reach, reach + 1, config.dilation)
    wanted = np.zeros(len(samples.marks), bool)
    wanted[rows] = True
    found, kept = [], []
    for index, tile, inside in samples.marked_tiles(tile=TILE, stride=net.stride, radius=net.radius):
        inside = inside[wanted[inside]]
        if len(inside) == 0:
            continue
        prepared = pad_to_stride(samples.read(index, tile.read), net.stride)
        with torch.inference_mode():
            seen = net.before(layer, torch.from_numpy(prepared)[None])[0].numpy()
        at = (samples.marks.place[inside, 2:] - np.array(tile.read.start[2:])) // stride
        _, first = np.unique(np.column_stack([samples.marks.stroke[inside], at]), axis=0, return_index=True)
        first.sort()
        padded = np.pad(seen, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
        y, x = at[first].T + reach
        found.append(padded[:, y[:, None, None] + window[:, None], x[:, None, None] + window].swapaxes(0, 1))
        kept.append(inside[first])
    return np.concatenate(found), np.concatenate(kept)
