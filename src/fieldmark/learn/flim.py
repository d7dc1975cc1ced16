"""Estimate the kernels of FLIM layers from marked pixels, layer after layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from fieldmark.core.seeds import derive_seed
from fieldmark.errors import NothingLabelled
from fieldmark.learn.dropping import without
from fieldmark.learn.estimate import Estimate
from fieldmark.learn.kernels import choose_points, estimate_kernels
from fieldmark.learn.marked_maps import MarkedMaps
from fieldmark.learn.pixel_head import thin_marks

if TYPE_CHECKING:
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
    config = cast("FlimNet", net).config
    learner = LayerLearner(samples, config.max_patches_per_marker, recipe.seed)
    steps = [(branch, layer) for branch, own in enumerate(config.branches) for layer in range(len(own.layers))]
    return Estimate("flim-layers", [_solver(learner, branch, layer) for branch, layer in steps])


def _solver(learner: LayerLearner, branch: int, layer: int) -> Callable[[Net], dict[str, float]]:
    return lambda net: learner.learn(cast("FlimNet", net), branch, layer)


@dataclass(frozen=True, slots=True)
class Patches:
    """What a layer sees under marks.

    Args:
        values: (N, C) float32 at the marked pixels, one row for each that a stroke has on the layer's grid.
        rows: (N,) the marks that these stand for.
        patches: (P, C, k, k) float32 around some of them.
        chosen: (P,) the marks that those stand for.
    """

    values: np.ndarray
    rows: np.ndarray
    patches: np.ndarray
    chosen: np.ndarray


class LayerLearner:
    """Learns the layers of one fit; what layers have in common is computed once.

    Args:
        samples: Images and marks.
        most: Patches of a stroke that are looked at.
        seed: Of the recipe.
    """

    def __init__(self, samples: Samples, most: int, seed: int) -> None:
        self.samples = samples
        self.seed = seed
        self.maps = MarkedMaps(samples, thin_marks(samples, most, derive_seed(seed, "flim")))
        self._bags: dict[int, np.ndarray] = {}

    def learn(self, net: FlimNet, branch: int, layer: int) -> dict[str, float]:
        """Set the statistics and kernels of one layer; the layers before it are learned."""
        config, how = net.config.branches[branch].layers[layer], net.config.kernels
        bag = self._bag(net, branch) if how.kind == "points" else None
        seen = self._look(net, branch, layer, bag)
        mean, std = marker_statistics(seen.values, self.samples.marks.stroke[seen.rows], net.config.epsilon)
        kernels = estimate_kernels(
            standardized(seen.patches, mean, std, centered=config.centered),
            self.samples.marks.stroke[seen.chosen],
            self.samples.marks.klass[seen.chosen],
            config=how,
            per_group=config.kernels_per_marker,
            most=config.out_channels,
            seed=derive_seed(self.seed, "kernels", branch, layer),
        )
        kernels = without(kernels, config.dropped, f"branch{branch + 1}/layer{layer + 1}")
        block = net.block(branch, layer)
        _set(block, mean, std, kernels.weight.reshape(-1, *seen.patches.shape[1:]))
        _trace(block, self.samples, seen.chosen[kernels.patch], kernels.klass)
        return {"patches": float(len(seen.patches)), "kernels": float(len(kernels.weight))}

    def _bag(self, net: FlimNet, branch: int) -> np.ndarray:
        """The marks that are a branch's feature points: clustered once, as its first layer sees them."""
        if branch not in self._bags:
            config, how = net.config.branches[branch].layers[0], net.config.kernels
            seen, marks = self._look(net, branch, 0, None), self.samples.marks
            mean, std = marker_statistics(seen.values, marks.stroke[seen.rows], net.config.epsilon)
            flat = standardized(seen.patches, mean, std, centered=config.centered)
            groups = (marks.stroke if how.grouping == "stroke" else marks.klass)[seen.chosen]
            seed = derive_seed(self.seed, "bag", branch)
            chosen = choose_points(flat, groups, config.kernels_per_marker, seed, config=how)
            self._bags[branch] = np.sort(seen.chosen[chosen])
        return self._bags[branch]

    def _look(self, net: FlimNet, branch: int, layer: int, bag: np.ndarray | None) -> Patches:
        """Coordinates are brought to the layer's grid by integer division by its stride.

        Marks of one stroke that fall on one grid pixel give one patch. With a bag, patches are cut around its
        marks alone.
        """
        config = net.config.branches[branch].layers[layer]
        values, rows, patches, chosen = [], [], [], []
        for seen, at, own in self.maps.of(net, branch, layer, bag):
            y, x = at.T
            values.append(seen[:, y, x].T)
            rows.append(own)
            cut = slice(None) if bag is None else np.isin(own, bag)
            patches.append(cut_patches(seen, at[cut], config))
            chosen.append(own[cut])
        return Patches(*map(np.concatenate, (values, rows, patches, chosen)))


def standardized(patches: np.ndarray, mean: np.ndarray, std: np.ndarray, *, centered: bool) -> np.ndarray:
    """(N, C, k, k) patches to (N, D) float32 by the statistics (C,) of their channels; centered: less their means."""
    flat = patches - mean.astype(np.float32)[:, None, None]
    flat /= std.astype(np.float32)[:, None, None]
    if centered:
        flat -= flat.mean(axis=(2, 3), keepdims=True)
    return flat.reshape(len(flat), -1)


def marker_statistics(values: np.ndarray, markers: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread of each channel over marked pixels, every marker with the same voice.

    Args:
        values: (N, C) at the marked pixels.
        markers: (N,) the marker of each.
        epsilon: Part of the mean spread that is added, so that a constant channel divides by more than nothing.
    """
    _, inverse, counts = np.unique(markers, return_inverse=True, return_counts=True)
    weights = (1.0 / len(counts) / counts)[inverse]
    mean = weights @ values
    std = np.sqrt(weights @ np.square(values - mean))
    return mean, std + epsilon * std.mean() + 1e-6


def cut_patches(seen: np.ndarray, at: np.ndarray, config: FlimLayer) -> np.ndarray:
    """(N, C, k, k) windows of (C, y, x), centered on (N, 2) y, x; borders continue by their nearest value.

    In memory the patches are the last axis: what follows works on one offset of all patches after the other.
    """
    reach = config.kernel_size // 2 * config.dilation
    window = np.arange(-reach, reach + 1, config.dilation)[:, None]
    y, x = (np.clip(place + window, 0, size - 1) for place, size in zip(at.T, seen.shape[1:], strict=True))
    flat = seen.reshape(len(seen), -1)
    patches = np.empty((len(seen), len(y), len(x), len(at)), seen.dtype)
    for i, rows in enumerate(y * seen.shape[2]):
        for j, columns in enumerate(x):
            patches[:, i, j] = flat.take(rows + columns, axis=1)
    return patches.transpose(3, 0, 1, 2)


def _set(block: FlimBlock, mean: np.ndarray, std: np.ndarray, weight: np.ndarray) -> None:
    block.mean = torch.from_numpy(mean.astype(np.float32))
    block.std = torch.from_numpy(std.astype(np.float32))
    block.weight = torch.from_numpy(weight.astype(np.float32))
    block.bias = torch.zeros(len(weight))


def _trace(block: FlimBlock, samples: Samples, rows: np.ndarray, klass: np.ndarray) -> None:
    """Remember the class, the stroke and the pixel (image, t, z, y, x) that each kernel came from."""
    marks = samples.marks
    block.klass = torch.from_numpy(klass)
    block.stroke = torch.from_numpy(marks.stroke[rows])
    block.place = torch.from_numpy(np.column_stack([marks.image[rows], marks.place[rows]]))
