"""Teach the layers of a FLIM architecture from marked pixels, one after the other, in the order of the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import nn

from fieldmark.core.seeds import derive_seed
from fieldmark.errors import BadInput, NothingLabelled
from fieldmark.infer.forward import fit_to_net
from fieldmark.infer.tiles import plan_tiles
from fieldmark.learn.dropping import without
from fieldmark.learn.estimate import Estimate
from fieldmark.learn.given import given_layers
from fieldmark.learn.kernels import Kernels, choose_points, estimate_kernels
from fieldmark.learn.pieces import pieces_of
from fieldmark.learn.pixel_head import thin_marks
from fieldmark.learn.sampling import TILE
from fieldmark.models.flim_ops import BatchNorm, Conv, Decoder, Grid, MarkerNorm, Seen

if TYPE_CHECKING:
    from fieldmark.core.geometry import Tile
    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net
    from fieldmark.models.flim_graph import FlimGraphNet
    from fieldmark.recipes import FitRecipe
    from fieldmark.recipes.flim_arch import ConvParams, Module, ModuleParams
    from fieldmark.recipes.kernels import KernelConfig

ENOUGH = 0.01
"""The loss below which a bias has been learned."""


def flim_graph(net: Net, samples: Samples, recipe: FitRecipe) -> Estimate | None:
    """The phase that teaches one layer a step, or takes given ones; None where no layer learns from markers."""
    names = cast("FlimGraphNet", net).learnable()
    if recipe.begin is not None:
        return given_layers(recipe.begin)
    if not names:
        return None
    if len(samples.marks) == 0:
        raise NothingLabelled(
            "FLIM learns from strokes, and none of these images holds one. Draw or import some "
            "(`fieldmark labels import`)."
        )
    return Estimate("flim-graph", [_solver(name, samples, recipe.seed) for name in names])


def _solver(name: str, samples: Samples, seed: int) -> Callable[[Net], dict[str, float]]:
    return lambda net: _teach(Layer(cast("FlimGraphNet", net), name, samples), seed)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer under instruction: the network up to it, and the samples."""

    net: FlimGraphNet
    name: str
    samples: Samples

    @property
    def path(self) -> str:
        return ".".join(["features", *(f"layers.{part}" for part in self.name.split("/"))])

    def see(self, index: int, tile: Tile, *, dense: bool) -> Seen:
        """What the layer sees of a tile: the pads, strides and borders are those of inference."""
        prepared = fit_to_net(self.samples.read(index, tile.read, spatial=self.net.spatial), self.net)
        with torch.inference_mode():
            return self.net.before(torch.from_numpy(prepared)[None], self.name, dense=dense)

    def marked(self, rows: np.ndarray, *, dense: bool) -> Iterator[tuple[np.ndarray, np.ndarray, Seen]]:
        """Tile by tile: chosen rows of the marks, their pixels (N, spatial) in the tile, what the layer sees."""
        wanted = np.zeros(len(self.samples.marks), bool)
        wanted[rows] = True
        tiles = self.samples.marked_tiles(tile=TILE, stride=self.net.strides, radius=self.net.radii)
        for index, tile, inside in tiles:
            chosen = inside[wanted[inside]]
            if len(chosen):
                at = (self.samples.marks.place[chosen] - np.array(tile.read.start))[:, -self.net.spatial :]
                yield chosen, at, self.see(index, tile, dense=dense)

    def whole(self) -> Iterator[tuple[int, np.ndarray]]:
        """The maps of the marked planes (volumes in 3-D), tile by tile without halos: image, (C, N) values."""
        marks = self.samples.marks
        for index in np.unique(marks.image):
            places = marks.place[marks.image == index]
            shape = self.samples.shape(int(index))
            for tile in plan_tiles(shape, tile=TILE, stride=self.net.strides, halo=self.net.radii):
                low, high = np.array(tile.core.start), np.array(tile.core.stop)
                axes = slice(0, 4 - self.net.spatial)
                if ((places >= low) & (places < high))[:, axes].all(axis=1).any():
                    seen = self.see(int(index), tile, dense=False)
                    yield int(index), _own(seen, tile, self.net.spatial)


def _own(seen: Seen, tile: Tile, spatial: int) -> np.ndarray:
    """(C, N): the samples of a map whose places lie in the tile's core."""
    core = tile.core.relative_to(tile.read)
    values = seen.values[0].numpy()
    for place, axis in enumerate(seen.grid.axes):
        at = axis.start + axis.jump * np.arange(axis.size) + 0.5
        start, stop = core.start[4 - spatial + place], core.stop[4 - spatial + place]
        values = values.take(np.flatnonzero((at >= start) & (at < stop)), axis=1 + place)
    return values.reshape(len(values), -1)


def _teach(layer: Layer, seed: int) -> dict[str, float]:
    op = layer.net.op(layer.name)
    match op:
        case Conv():
            return _teach_conv(layer, op, seed)
        case MarkerNorm():
            return _teach_norm(layer, op)
        case BatchNorm():
            return _teach_batch_norm(layer, op)
        case Decoder():
            return _teach_decoder(layer, op)
    raise TypeError(f"{layer.path}: {type(op).__name__} does not learn from markers")


def _teach_norm(layer: Layer, op: MarkerNorm) -> dict[str, float]:
    """Mean and population spread of every marked pixel, each counted once."""
    rows = np.arange(len(layer.samples.marks))
    values, _ = marked_values(layer, rows, dense=layer.net.config.pooling == "atrous")
    std = values.std(axis=0) + op.params.epsilon
    op.mean = _tensor(values.mean(axis=0))
    op.std = _tensor(np.where(std > 0, std, 1.0))  # a constant channel stays constant
    op.weight, op.bias = torch.ones(values.shape[1]), torch.zeros(values.shape[1])
    return {"pixels": float(len(values))}


def marked_values(layer: Layer, rows: np.ndarray, *, dense: bool) -> tuple[np.ndarray, np.ndarray]:
    """(N, C) float64 of the samples nearest to marks, and the rows of the marks; those beyond the map are left out."""
    found, kept = [], []
    for chosen, at, seen in layer.marked(rows, dense=dense):
        index, inside = _nearest(seen.grid, at)
        found.append(seen.values[0].numpy()[:, *index[inside].T].T.astype(np.float64))
        kept.append(chosen[inside])
    _require(sum(map(len, kept)), layer)
    return np.concatenate(found), np.concatenate(kept)


def _nearest(grid: Grid, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, spatial) samples nearest to pixels, and (N,) whether the map has them."""
    start, jump = (np.array([getattr(axis, name) for axis in grid.axes]) for name in ("start", "jump"))
    index = np.floor((at - start) / jump + 0.5 + 1e-9).astype(np.int64)
    return index, ((index >= 0) & (index < np.array(grid.size))).all(axis=1)


def marked_patches(layer: Layer, op: Conv, rows: np.ndarray, *, dense: bool) -> tuple[np.ndarray, np.ndarray]:
    """The windows of a convolution whose centers are nearest to marks.

    A border is padded as in inference; marks where the convolution has no window (its
    padding is smaller than half of it) are left out. Marks of one stroke that fall on one
    sample give one patch.

    Returns:
        (N, C, (kz,) ky, kx) float32, and the (N,) rows of the marks that they stand for.
    """
    found, kept = [], []
    for chosen, at, seen in layer.marked(rows, dense=dense):
        index, inside = _nearest(op.patches_grid(seen.grid), at)
        strokes = layer.samples.marks.stroke[chosen]
        own = np.flatnonzero(inside)
        _, first = np.unique(np.column_stack([strokes[own], index[own]]), axis=0, return_index=True)
        own = own[np.sort(first)]
        padded = op.padded(seen.values, seen.grid)[0].numpy()
        found.append(cut_windows(padded, index[own], op.size, op.window(seen.grid)))
        kept.append(chosen[own])
    _require(sum(map(len, kept)), layer)
    return np.concatenate(found), np.concatenate(kept)


def cut_windows(padded: np.ndarray, first: np.ndarray, size: tuple[int, ...], dilation: tuple[int, ...]) -> np.ndarray:
    """(N, C, *size) windows of (C, ...) whose first samples are at (N, axes)."""
    axes = len(size)
    index: list[Any] = [slice(None)]
    for axis, (length, step) in enumerate(zip(size, dilation, strict=True)):
        offsets = (np.arange(length) * step).reshape([-1 if a == axis else 1 for a in range(axes)])
        index.append(first[:, axis].reshape(-1, *(1,) * axes) + offsets)
    windows: np.ndarray = padded[tuple(index)].swapaxes(0, 1)
    return windows


def _require(count: int, layer: Layer) -> None:
    if count == 0:
        raise NothingLabelled(
            f"{layer.path}: every mark lies beyond the borders of what this layer sees. Draw strokes farther from the "
            "image's border, or give the layers more padding."
        )


def _no_sample(layer: Layer) -> BadInput:
    return BadInput(
        f"{layer.path}: a marked image is so small that no sample of the map lies in it. Use larger images, or smaller "
        "strides and windows in the architecture."
    )


def _teach_conv(layer: Layer, op: Conv, seed: int) -> dict[str, float]:
    net, marks, params = layer.net, layer.samples.marks, op.params
    rows = _rows(layer, seed)
    patches, rows = marked_patches(layer, op, rows, dense=_is_dense(net, params))
    _check_channels(layer, op, patches.shape[1])
    parts = []
    for group, own in enumerate(np.split(patches, params.groups, axis=1)):
        flat = own.reshape(len(own), -1)
        kernels = _kernels(layer, op, flat, rows, derive_seed(seed, "kernels", layer.name, group))
        kernels = without(kernels, _dropped(layer, params), layer.path)
        parts.append((flat, kernels))
    weights = np.concatenate([kernels.weight for _, kernels in parts])
    biases = [np.zeros(len(kernels.weight)) for _, kernels in parts]
    if params.bias:
        trained = [
            train_bias(flat, k.weight, params, _module_of(net.config.arch.features, layer.name)) for flat, k in parts
        ]
        weights, biases = np.concatenate([w for w, _ in trained]), [b for _, b in trained]
    op.weight = _tensor(weights.reshape(-1, patches.shape[1] // params.groups, *op.size))
    op.bias = _tensor(np.concatenate(biases))
    origin = np.concatenate([rows[kernels.patch] for _, kernels in parts])
    op.stroke, op.klass = torch.from_numpy(marks.stroke[origin]), torch.from_numpy(marks.klass[origin])
    op.place = torch.from_numpy(np.column_stack([marks.image[origin], marks.place[origin]]))
    return {"patches": float(len(patches)), "kernels": float(len(weights))}


def _dropped(layer: Layer, params: ConvParams) -> tuple[int, ...]:
    dropped = layer.net.config.dropped.get(layer.name, ())
    if dropped and params.groups > 1:
        raise BadInput(f"{layer.path}: a convolution of {params.groups} groups cannot lose single filters.")
    return dropped


def _is_dense(net: FlimGraphNet, params: ConvParams) -> bool:
    return params.train_dilation or net.config.pooling == "atrous"


def _rows(layer: Layer, seed: int) -> np.ndarray:
    """The marks that teach: of each stroke not too many; of the kind `points`, those in the bag."""
    net = layer.net
    rows = thin_marks(layer.samples, net.config.max_patches_per_marker, derive_seed(seed, "flim"))
    first = next(name for name in net.learnable() if isinstance(net.op(name), Conv))
    if net.config.kernels.kind != "points":
        return rows
    entry = Layer(net, first, layer.samples)
    op = cast("Conv", net.op(first))
    patches, rows = marked_patches(entry, op, rows, dense=False)
    groups = _groups(layer, pieces_of(layer.samples.marks, net.spatial), rows)
    per_group = _per_group(op.params, len(np.unique(groups)))
    flat = patches.reshape(len(patches), -1)
    chosen: np.ndarray = rows[
        choose_points(flat, groups, per_group, derive_seed(seed, "points"), config=net.config.kernels)
    ]
    return chosen


def _groups(layer: Layer, pieces: np.ndarray, rows: np.ndarray) -> np.ndarray:
    by_stroke = layer.net.config.kernels.grouping == "stroke"
    groups: np.ndarray = (pieces if by_stroke else layer.samples.marks.klass)[rows]
    return groups


def _per_group(params: ConvParams, groups: int) -> int:
    """Kernels of each marker: FLIM's `ceil(out_channels / markers)` where the JSON does not say."""
    return params.number_of_kernels_per_marker or ceil((params.out_channels or 1) / groups)


def _kernels(layer: Layer, op: Conv, flat: np.ndarray, rows: np.ndarray, seed: int) -> Kernels:
    marks, params = layer.samples.marks, op.params
    most = None if params.out_channels is None else params.out_channels // params.groups
    config = _layer_config(layer.net.config.kernels, params, most, flat.shape[1])
    pieces = pieces_of(marks, layer.net.spatial)
    per_group = _per_group(params, len(np.unique(_groups(layer, pieces, rows))))
    kernels = estimate_kernels(
        flat, pieces[rows], marks.klass[rows], config=config, per_group=per_group, most=most, seed=seed
    )
    if most is not None and len(kernels.weight) < most and config.similarity is None:
        raise BadInput(
            f"{layer.path}: {len(flat)} patches of {flat.shape[1]} values gave {len(kernels.weight)} kernels, and "
            f"out_channels wants {most}. Draw more or longer strokes, raise number_of_kernels_per_marker "
            f"({per_group} now), or lower out_channels."
        )
    return kernels


def _layer_config(config: KernelConfig, params: ConvParams, most: int | None, dimension: int) -> KernelConfig:
    """What the layer's own words change: there are no more principal axes than values in a patch."""
    pca = params.use_pca and most is not None and most <= dimension
    changes: dict[str, str] = {"reduction": "pca" if pca else "kmeans"}
    if params.use_random_kernels:
        changes["kind"] = "random"
    return config.model_copy(update=changes)


def _check_channels(layer: Layer, op: Conv, found: int) -> None:
    params = op.params
    if params.in_channels not in (None, -1, found):
        raise BadInput(
            f"{layer.path}.params.in_channels: {params.in_channels}, but {found} come. Write -1, or {found}."
        )
    if found % params.groups:
        raise BadInput(f"{layer.path}.params.groups: {params.groups} do not divide the {found} channels that come.")


def _module_of(module: Module, name: str) -> ModuleParams:
    """The parameters of the module that a layer stands in."""
    for part in name.split("/")[:-1]:
        module = cast("Module", module.layers[part])
    return module.params


def train_bias(
    patches: np.ndarray, kernels: np.ndarray, params: ConvParams, module: ModuleParams
) -> tuple[np.ndarray, np.ndarray]:
    """Kernels and biases that tell pseudo classes apart: every patch belongs to the kernel most in line with it.

    One linear layer that begins with the kernels, ReLU, cross entropy, Adam on all patches
    at once; then the kernels have unit length again, and the biases stay as they are.

    Args:
        patches: (N, D).
        kernels: (K, D) of unit length.
        params: Of the layer: `epochs`, `lr`, `wd` take the place of the module's.
        module: Of the module that the layer stands in.

    Returns:
        (K, D) of unit length, (K,).
    """
    inputs, weight = torch.from_numpy(patches.astype(np.float32)), torch.from_numpy(kernels.astype(np.float32))
    truth = (inputs @ weight.T).argmax(dim=1)
    weight, bias = nn.Parameter(weight), nn.Parameter(torch.zeros(len(kernels)))
    decay = module.wd if params.wd is None else params.wd
    optimizer = torch.optim.Adam([weight, bias], lr=params.lr or module.lr, weight_decay=decay)
    for _ in range(params.epochs or module.epochs):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy((inputs @ weight.T + bias).relu(), truth)
        if loss.item() < ENOUGH:
            break
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    unit = nn.functional.normalize(weight.detach().double(), dim=1)
    return unit.numpy(), bias.detach().double().numpy()


def _teach_batch_norm(layer: Layer, op: BatchNorm) -> dict[str, float]:
    """Exact mean and variance over the marked images: FLIM's own running average remembers where it began."""
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for _, values in layer.whole():
        own = values.astype(np.float64)
        count, total, squares = count + own.shape[1], total + own.sum(axis=1), squares + (own**2).sum(axis=1)
    if count == 0:
        raise _no_sample(layer)
    mean = total / count
    wanted = op.params.num_features
    if wanted not in (None, -1, len(mean)):
        raise BadInput(f"{layer.path}.params.num_features: {wanted}, but {len(mean)} channels come. Leave it out.")
    op.mean, op.variance = _tensor(mean), _tensor(np.maximum(squares / count - mean**2, 0.0))
    op.weight, op.bias = torch.ones(len(mean)), torch.zeros(len(mean))
    return {"pixels": float(count)}


def _teach_decoder(layer: Layer, op: Decoder) -> dict[str, float]:
    """Weight of a channel for a class: how bright it is under the class's marks and how dark under all others."""
    marks = layer.samples.marks
    if marks.klass.max() >= op.params.n_classes:
        raise BadInput(
            f"{layer.path}.params.n_classes: {op.params.n_classes}, but there are marks of class "
            f"{int(marks.klass.max()) + 1}. Give as many classes as there are."
        )
    low, high = _ranges(layer)
    values, rows = marked_values(layer, np.arange(len(marks)), dense=False)
    image = marks.image[rows]
    if not low.keys() >= set(image.tolist()):
        raise _no_sample(layer)
    spread = np.stack([high[i] - low[i] for i in image])
    shares = (values - np.stack([low[i] for i in image])) / np.where(spread > 0, spread, 1.0)
    op.weight = _tensor(importance(shares, marks.klass[rows], op.params.n_classes))
    return {"pixels": float(len(rows))}


def importance(shares: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """(K, C): mean of the shares under marks of a class plus mean of what they lack under the others, centered.

    Args:
        shares: (N, C) in 0..1 under each mark, each channel by the range that it has in its image.
        classes: (N,).
        count: K; a class without marks weighs nothing in its own term.
    """
    rows = []
    for klass in range(count):
        own = classes == klass
        inside = shares[own].mean(axis=0) if own.any() else np.zeros(shares.shape[1])
        outside = (1 - shares[~own]).mean(axis=0) if (~own).any() else np.zeros(shares.shape[1])
        rows.append(inside + outside - (inside + outside).mean())
    return np.array(rows)


def _ranges(layer: Layer) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """Least and largest value of each channel in each marked image."""
    low: dict[int, np.ndarray] = {}
    high: dict[int, np.ndarray] = {}
    for index, values in layer.whole():
        own = values.astype(np.float64)
        if own.shape[1]:
            low[index] = np.minimum(low.get(index, own[:, 0]), own.min(axis=1))
            high[index] = np.maximum(high.get(index, own[:, 0]), own.max(axis=1))
    return low, high


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
