"""FLIM networks as an architecture describes them: modules in modules, in 2-D and 3-D."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil, lcm
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from fieldmark.errors import BadInput, BadRecipe, NotFound
from fieldmark.models.base import Net
from fieldmark.models.flim_classifier import build_classifier
from fieldmark.models.flim_ops import Axis, Conv, Grid, Op, Seen, TooSmall, build_op
from fieldmark.models.image_heads import Look
from fieldmark.recipes.flim_arch import FlimGraphConfig, Module, Operation, walk

LARGE = 1 << 12
"""Pixels of an image on which no border effect meets another; a network that needs larger images is refused."""


class Block(nn.Module):
    """Named operations and blocks, one after the other or beside each other."""

    def __init__(self, spec: Module, axes: int, path: str = "features") -> None:
        super().__init__()
        self.spec, self.path = spec, path
        self.names = tuple(spec.layers)
        for name, node in spec.layers.items():
            try:
                below = f"{path}.layers.{name}"
                self.add_module(name, build_op(node, axes) if isinstance(node, Operation) else Block(node, axes, below))
            except KeyError:
                raise BadRecipe(f"A layer cannot be called {name!r}: torch uses the name. Choose another.") from None

    def parts(self) -> list[tuple[str, Op | Block]]:
        return [(name, cast("Op | Block", self._modules[name])) for name in self.names]

    def after(self, grid: Grid) -> Grid:
        if self.spec.type == "parallel":
            return joined_grid([node.after(grid) for _, node in self.parts()])
        for _, node in self.parts():
            grid = node.after(grid)
        return grid

    def forward(self, seen: Seen, prefix: str = "", found: dict[str, Seen] | None = None) -> Seen:
        """Run, and keep in `found` what every node gives, by its name."""
        found = {} if found is None else found
        ends = []
        for name, node in self.parts():
            path = f"{prefix}{name}"
            end: Seen = node(seen, f"{path}/", found) if isinstance(node, Block) else node(seen)
            found[path] = end
            ends.append(end)
            if self.spec.type == "sequential":
                seen = end
        return self._joined(ends) if self.spec.type == "parallel" else seen

    def _joined(self, ends: Sequence[Seen]) -> Seen:
        try:
            return join(ends, self.spec.params.aggregate)
        except BadInput as error:
            raise BadInput(f"{self.path}: {error}") from error

    def before(self, seen: Seen, path: Sequence[str]) -> Seen:
        """What the node at `path` sees."""
        if self.spec.type == "sequential":
            for name, node in self.parts():
                if name == path[0]:
                    break
                seen = node(seen)
        if len(path) == 1:
            return seen
        return cast("Block", self._modules[path[0]]).before(seen, path[1:])

    def grids(self, grid: Grid, prefix: str = "") -> Iterator[tuple[str, Grid]]:
        """Where the maps of all nodes lie, by name."""
        for name, node in self.parts():
            path = f"{prefix}{name}"
            if isinstance(node, Block):
                yield from node.grids(grid, f"{path}/")
            try:
                end = node.after(grid)
            except TooSmall:
                raise
            except BadInput as error:
                raise BadInput(f"{'.layers.'.join(['features', *path.split('/')])}: {error}") from error
            yield path, end
            if self.spec.type == "sequential":
                grid = end


def join(ends: Sequence[Seen], aggregate: str) -> Seen:
    """The maps of branches as one, on the finest of their grids; coarser ones are interpolated."""
    grid = joined_grid([end.grid for end in ends])
    finest = next((end.values for end in ends if _same(end.grid, grid)), None)
    axes = grid.axes
    if finest is not None and not grid.flat:  # sizes as the map has them, so that they are traced
        axes = tuple(replace(axis, size=size) for axis, size in zip(axes, finest.shape[2:], strict=True))
    maps = [end.values if _same(end.grid, grid) else resample(end, axes) for end in ends]
    if aggregate == "concat":
        return Seen(torch.cat(maps, dim=1), grid)
    if len({level.shape[1] for level in maps}) > 1:
        raise BadInput(
            f"Branches of {[level.shape[1] for level in maps]} channels cannot be joined by {aggregate!r}. "
            "Give them the same out_channels, or use 'concat'."
        )
    stacked = torch.stack(maps)
    if aggregate == "prod":
        return Seen(stacked.prod(dim=0), grid)
    return Seen(stacked.sum(dim=0) if aggregate == "sum" else stacked.mean(dim=0), grid)


def joined_grid(grids: Sequence[Grid]) -> Grid:
    """The grid of the branch with the smallest jumps; what it depends on is what any branch does."""
    if len({grid.flat for grid in grids}) > 1 or (grids[0].flat and len({grid.size for grid in grids}) > 1):
        raise BadInput("Branches that end in `unfold` can only be joined with others of the same kind.")
    finest = min(grids, key=lambda grid: [axis.jump for axis in grid.axes])
    axes = []
    for place, axis in enumerate(finest.axes):
        others = [grid.axes[place] for grid in grids]
        reach = max(other.reach + (0 if other == axis else _distance(other, axis.start, axis.last)) for other in others)
        axes.append(replace(axis, reach=max(reach, axis.reach), thinned=max(other.thinned for other in others)))
    return replace(finest, axes=tuple(axes), whole=any(grid.whole for grid in grids))


def _same(a: Grid, b: Grid) -> bool:
    pairs = zip(a.axes, b.axes, strict=True)
    return a.flat or all((x.size, x.jump, x.start) == (y.size, y.jump, y.start) for x, y in pairs)


def _distance(axis: Axis, first: float, last: float) -> float:
    """How far the samples may be that a place between `first` and `last` is interpolated from."""
    return max(axis.jump, axis.start - first, last - axis.last)


def resample(seen: Seen, axes: Sequence[Axis]) -> Tensor:
    """A map on other samples, by linear interpolation; beyond its ends it continues by its nearest value."""
    values = seen.values
    for place, (here, there) in enumerate(zip(seen.grid.axes, axes, strict=True), start=2):
        if (here.size, here.jump, here.start) == (there.size, there.jump, there.start):
            continue
        at = there.start + there.jump * torch.arange(there.size, dtype=torch.float64, device="cpu")
        last = torch.as_tensor(values.shape[place] - 1, device="cpu")  # a tensor, so that it is traced
        at = torch.minimum(((at - here.start) / here.jump).clamp(min=0), last.double())
        low = torch.minimum(at.floor().long(), (last - 1).clamp(min=0))
        share = (at - low).to(values.dtype).view(-1, *(1,) * (values.ndim - 1 - place)).to(values.device)
        high = torch.minimum(low + 1, last)
        below, above = (values.index_select(place, index.to(values.device)) for index in (low, high))
        values = torch.lerp(below, above, share)
    return values


class FlimGraphNet(Net):
    """The network of a FLIM architecture; its features are the last map, or those of the named layers.

    Maps are carried with their exact places in the image, whatever kernels, strides and
    padding do, and brought back onto the image's pixels by them.

    Args:
        channels: Channels of an image.
        config: Architecture, and how its kernels are estimated.
    """

    phases: ClassVar[tuple[str, ...]] = ("flim-graph", "pixel-head", "classify", "svm")

    def __init__(self, channels: int, config: FlimGraphConfig) -> None:
        super().__init__(channels)
        self.config = config
        self.spatial = config.arch.spatial
        self.graph = Block(config.arch.features, self.spatial)
        self._require_names(config.levels)
        self._strides, self._least = self._steps()
        self._radii, self.whole = self._reaches()
        self.stride, self.radius = lcm(*self._strides), max(self._radii)

    @property
    def strides(self) -> tuple[int, int, int]:
        return _three(self._strides, 1)

    @property
    def radii(self) -> tuple[int, int, int]:
        return _three(self._radii, 0)

    @property
    def least(self) -> tuple[int, ...]:
        return self._least

    @property
    def tile_exact(self) -> bool:
        return super().tile_exact and not self.whole

    def levels(self, x: Tensor) -> list[Tensor]:
        names = self.config.levels
        seen = list(self._seen(x, names).values()) if names else [self.final(x)]
        return [on_image(level, tuple(x.shape[2:])) for level in seen]

    def final(self, x: Tensor) -> Seen:
        """The last map of the features, and where it lies."""
        end: Seen = self.graph(self._image(x))
        return end

    def maps(self, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """What layers give, by their names ("outer/inner"), each on its own samples: (B, F, ...).

        Raises NotFound for a name that no layer has.
        """
        return {name: seen.values for name, seen in self._seen(x, names).items()}

    def _seen(self, x: Tensor, names: Sequence[str]) -> dict[str, Seen]:
        self._require_names(names)
        found: dict[str, Seen] = {}
        self.graph(self._image(x), "", found)
        return {name: found[name] for name in names}

    def before(self, x: Tensor, name: str, *, dense: bool = False) -> Seen:
        """What a layer sees of prepared pixels; `dense`: as it were if no stride left samples out."""
        return self.graph.before(self._image(x, dense=dense), name.split("/"))

    def grids(self, size: tuple[int, ...]) -> dict[str, Grid]:
        """Where the maps of all layers lie, for an image of that size."""
        return dict(self.graph.grids(Grid.of(size)))

    def op(self, name: str) -> Op:
        return cast("Op", self.graph.get_submodule(name.replace("/", ".")))

    def learnable(self) -> list[str]:
        """Names of the layers that markers teach, in order."""
        return [name for name, _ in walk(self.config.arch.features) if self.op(name).learns]

    def kernel_classes(self) -> dict[int, Tensor]:
        """The last convolution, where one line of layers leads to the only level."""
        convs = [op for op in map(self.op, self.learnable()) if isinstance(op, Conv) and len(op.klass)]
        parallel = any(isinstance(part, Block) and part.spec.type == "parallel" for part in self.graph.modules())
        return {} if parallel or self.config.levels or not convs else {0: convs[-1].klass}

    @property
    def image_stride(self) -> int:
        """Whole images are taken at their own size, as torch does."""
        return 1

    def image_maps(self, x: Tensor) -> list[Tensor]:
        """The last map; the columns of an `unfold`, where nothing of the architecture takes them, as a map of one."""
        end = self.final(x)
        return [end.values[..., None] if end.grid.flat and not self.brings_classifier else end.values]

    def looked_at(self, x: Tensor, look: Look) -> list[Tensor]:
        """Every level is one that `net.levels` names, on its own samples."""
        names = self.config.levels
        return list(self.maps(x, names).values()) if look.levels == "all" and names else self.image_maps(x)

    def tunable(self) -> list[Tensor]:
        names = ("weight", "bias")
        ops = [self.op(name) for name in self.learnable()]
        return [getattr(op, name) for op in ops for name in names if hasattr(op, name)]

    @property
    def brings_classifier(self) -> bool:
        return self.config.arch.classifier is not None

    def own_classifier(self, shape: tuple[int, ...]) -> nn.Module:
        if self.config.arch.classifier is None:
            return super().own_classifier(shape)
        self.classifier = build_classifier(self.config.arch.classifier, shape)
        return self.classifier

    def details(self) -> dict[str, Any]:
        """Where each kernel of the convolutions came from."""
        convs = [(name, self.op(name)) for name in self.learnable()]
        return {
            "kernels": [
                {
                    "weight": f"graph.{name.replace('/', '.')}.weight",
                    "stroke": op.stroke.tolist(),
                    "place": op.place.tolist(),
                }
                for name, op in convs
                if isinstance(op, Conv) and len(op.stroke)
            ]
        }

    def _image(self, x: Tensor, *, dense: bool = False) -> Seen:
        return Seen(x, Grid.of(tuple(x.shape[2:]), dense=dense))

    def _require_names(self, names: Sequence[str]) -> None:
        known = [name for name, _ in self.graph.named_modules() if name and ".after_it" not in name]
        for name in names:
            if name.replace("/", ".") not in known or "." in name:
                raise NotFound("layer", name, [item.replace(".", "/") for item in known])

    def _steps(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Total downsampling of an axis, and the fewest pixels along it: a multiple of it that every layer can take."""
        grids = [grid for _, grid in self.graph.grids(self._large())]
        fixed = [grid for grid in grids if not grid.whole]
        axes = range(self.spatial)
        strides = tuple(lcm(*(int(grid.axes[axis].jump) for grid in fixed)) if fixed else 1 for axis in axes)
        return strides, tuple(self._fewest(axis, strides[axis]) for axis in axes)

    def _large(self) -> Grid:
        return Grid.of((LARGE,) * self.spatial, fixed=())

    def _fewest(self, axis: int, stride: int) -> int:
        large = self._large().size
        for size in range(stride, LARGE, stride):
            try:
                self.graph.after(Grid.of((*large[:axis], size, *large[axis + 1 :]), fixed=(axis,)))
            except TooSmall:
                continue
            return size
        raise BadRecipe(f"The architecture needs images of more than {LARGE} pixels. Use more padding.")

    def _reaches(self) -> tuple[tuple[int, ...], bool]:
        size = tuple(-(-LARGE // n) * n + least for n, least in zip(self._strides, self._least, strict=True))
        grids = dict(self.graph.grids(Grid.of(size, fixed=())))
        ends = [grids[name] for name in self.config.levels] or [self.graph.after(Grid.of(size, fixed=()))]
        radii = tuple(
            max(ceil(_full_reach(end.axes[axis], size[axis])) for end in ends) for axis in range(self.spatial)
        )
        circular = any(isinstance(m, Conv) and m.params.padding_mode == "circular" for m in self.graph.modules())
        return radii, circular or any(grid.whole for grid in grids.values())


def on_image(seen: Seen, size: tuple[int, ...]) -> Tensor:
    """A map that plain enlarging brings to the image's size: as it is where it does, else interpolated here."""
    if seen.grid.flat:
        raise BadInput("The features end in `unfold`, which are no maps of pixels. Add a `fold`, or name other levels.")
    pairs = list(zip(seen.grid.axes, size, strict=True))
    if all(axis.start == (axis.jump - 1) / 2 and axis.size * axis.jump == n for axis, n in pairs):
        return seen.values
    return resample(seen, [Axis(n) for n in size])


def _full_reach(axis: Axis, size: int) -> float:
    if (axis.size, axis.jump, axis.start) == (size, 1, 0):
        return axis.reach
    return axis.reach + _distance(axis, 0, size - 1)


def _three(values: tuple[int, ...], z: int) -> tuple[int, int, int]:
    depth, height, width = (z, *values)[-3:]
    return depth, height, width
