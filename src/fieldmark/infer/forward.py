"""A network as a function of raw pixels."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fieldmark.core.geometry import Box, TilePlan, round_up
from fieldmark.errors import BadInput
from fieldmark.infer.device import device_of
from fieldmark.infer.tiles import with_channels
from fieldmark.models.base import Net
from fieldmark.models.folding import folded
from fieldmark.models.layout import channels_last, lay_channels_last
from fieldmark.models.own_code import blamed
from fieldmark.prepare import Whole, apply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fieldmark.core.geometry import Tile
    from fieldmark.images import ImageSource
    from fieldmark.infer.tiles import AnyPlan
    from fieldmark.models.heads import Head, Seen
    from fieldmark.models.tally import Tally


class Survey:
    """What is known of one plane of one image; given out once for each tile that was announced."""

    def __init__(self) -> None:
        self.ready = False
        self._key: tuple[ImageSource | None, tuple[int, ...]] = (None, ())
        self._seen: Seen = ()

    def holds(self, source: ImageSource, place: tuple[int, ...]) -> bool:
        return self._key[0] is source and self._key[1] == place

    def hold(self, source: ImageSource, place: tuple[int, ...], seen: Seen) -> None:
        self._key, self._seen = (source, place), seen

    def take(self) -> Seen:
        ready, self.ready = self.ready, False
        return self._seen if ready else ()


class NetForward:
    """Prepare, pad to the stride, run plane by plane (volume by volume where the net is 3-D), cut back.

    Args:
        net: Put into evaluation mode; what answers is a copy of it with its batch norms folded in, where its weights
            are.
        preparation: The model's steps from raw to prepared pixels.
        output: What is wanted: `classes`, `features`, or an output of the family.
        precision: `fp32`, or `bf16` for autocast (faster, about three digits).
        image: The name of what is predicted, for errors.
        whole: The image that tiles are of, for preparations that look at it.
    """

    def __init__(
        self,
        net: Net,
        preparation: list[dict[str, Any]],
        output: str = "classes",
        *,
        precision: str = "fp32",
        image: str = "The image",
        whole: Whole | None = None,
    ) -> None:
        self.image = image
        self.whole = whole
        self._box: Box | None = None
        self._core: Box | None = None
        self.net = folded(net.eval())
        lay_channels_last(self.net)
        self.preparation = preparation
        self.output = output
        self.precision = precision
        self.device = device_of(net)
        self.stride = net.strides
        self.halo = net.halo
        self.rounds = net.head.rounds if net.head is not None and output == "classes" else 0
        self._survey = Survey()

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """(t, c, z, y, x) raw pixels to (t, k, z, y, x) float32 answers: of the core alone, where one was announced."""
        seen, box, core = self._survey.take(), self._box, self._core
        self._box = self._core = None
        core = core or Box.whole((block.shape[0], *block.shape[2:]))
        part = Box(core.start[-self.net.spatial :], core.stop[-self.net.spatial :])
        times, depths = (range(core.start[axis], core.stop[axis]) for axis in (0, 1))
        if self.net.spatial == 3:
            return np.stack([self.plane(block[t], seen, _part(box, t), part) for t in times])
        planes = [self.plane(block[t, :, z], seen, _part(box, t, z), part) for t in times for z in depths]
        stacked = np.stack(planes).reshape(len(times), len(depths), *planes[0].shape)
        return np.ascontiguousarray(stacked.transpose(0, 2, 1, 3, 4))

    def placed(self, block: np.ndarray, box: Box) -> np.ndarray:
        """The same for pixels that lie at a box over t, z, y, x."""
        self._box = box
        return self(block)

    def plane(self, pixels: np.ndarray, seen: Seen = (), box: Box | None = None, part: Box | None = None) -> np.ndarray:
        """(c, (z,) y, x) raw pixels to (k, (z,) y, x) float32 answers. Raises BadInput for pixels that are no numbers.

        `box` is where they lie over t, z, y, x, for preparations that ask; `part` is what is answered of them, over
        (z,) y, x, else all. A head with `rounds` takes the pixels to be the whole plane where nothing was seen of it.
        """
        whole = Box.whole(pixels.shape[1:])
        part = part or whole
        with torch.inference_mode(), self._autocast():
            x = self._prepared(pixels, box)
            with blamed(type(self.net), f"forward of {tuple(x.shape)} of {self.image}"):
                if self.rounds:
                    answers = self._surveyed(x, whole.slices, seen)[(slice(None), slice(None), *part.slices)]
                else:
                    answers = self.net.answer_inside(x, self.output, part)
        plane: np.ndarray = answers[0].float().cpu().numpy()
        return plane

    def _surveyed(self, x: Tensor, inside: tuple[slice, ...], seen: Seen) -> Tensor:
        levels, size, head = self.net.levels(x), x.shape[2:], self._head()
        return self.net.refined(head.answer(levels, size, seen or head.survey_whole(levels, size, inside)), x)

    def look(self, source: ImageSource, plan: AnyPlan, tile: Tile) -> None:
        """Be told where the next block lies and what of it to answer, and see the whole plane, as the head asks for it.

        The tallies of one plane are kept until another is asked for.
        """
        self._box = tile.read
        self._core = tile.core.relative_to(tile.read) if isinstance(plan, TilePlan) else None
        if self.rounds:
            kept = 4 - self.net.spatial
            place = tile.core.start[:kept]
            if not self._survey.holds(source, place):
                tiles = [own for own in plan if own.core.start[:kept] == place]
                # one tile is surveyed while it is answered: its levels are computed once
                self._survey.hold(source, place, self._seen_of(source, tiles) if len(tiles) > 1 else ())
            self._survey.ready = True

    def _seen_of(self, source: ImageSource, tiles: list[Tile]) -> Seen:
        seen: Seen = ()
        for _ in range(self.rounds):
            found = (self._tally(source, tile, seen) for tile in tiles)
            total = next(found)
            for tally in found:
                total = total + tally
            seen = (*seen, total)
        return seen

    def _tally(self, source: ImageSource, tile: Tile, seen: Seen) -> Tally:
        block = source.read(with_channels(tile.read, source.shape[1]))[0]
        core = tile.core.relative_to(tile.read).slices[-self.net.spatial :]
        with torch.inference_mode(), self._autocast():
            x = self._prepared(block if self.net.spatial == 3 else block[:, 0], tile.read)
            return self._head().survey(self.net.levels(x), x.shape[2:], core, seen)

    def _head(self) -> Head:
        if self.net.head is None:
            raise RuntimeError("this network has no head")
        return self.net.head

    def _prepared(self, pixels: np.ndarray, box: Box | None) -> Tensor:
        require_numbers(pixels, self.image, self.preparation)
        steps = self.preparation
        if self.whole is not None:
            z, y, x = (1, *pixels.shape[-2:]) if pixels.ndim == 3 else pixels.shape[1:]
            steps = self.whole.at(steps, box or Box((0,) * 4, (1, z, y, x)))
        return self._tensor(fit_to_net(apply(pixels, steps), self.net))

    def _tensor(self, prepared: np.ndarray) -> Tensor:
        return channels_last(torch.from_numpy(prepared)[None].to(self.device))

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()


def _part(box: Box | None, t: int, z: int | None = None) -> Box | None:
    """The part of a box over t, z, y, x that is its t-th time, and its z-th slice."""
    if box is None:
        return None
    (t0, z0, *low), (_, z1, *high) = box.start, box.stop
    if z is not None:
        z0, z1 = z0 + z, z0 + z + 1
    return Box((t0 + t, z0, *low), (t0 + t + 1, z1, *high))


def require_numbers(pixels: np.ndarray, image: str, steps: Sequence[dict[str, Any]] = ()) -> None:
    """Raise BadInput where pixels are NaN or infinite: they would spread silently over all that is near them.

    Of (C, ...) pixels those of channels that the steps leave out are not looked at, such as a target's.
    """
    take = next((step["take"] for step in steps if step.get("step") == "channels"), ())
    pixels = pixels[list(take)] if max(take, default=len(pixels)) < len(pixels) else pixels
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise BadInput(
            f"{image}: holds pixels that are NaN or infinite. Replace them, for example by the image's median."
        )


def pad_to_stride(pixels: np.ndarray, stride: int) -> np.ndarray:
    """Grow (c, y, x) downwards and to the right to multiples of the stride, by reflection."""
    return _grown(pixels, [round_up(size, stride) for size in pixels.shape[1:]])


def fit_to_net(pixels: np.ndarray, net: Net) -> np.ndarray:
    """Grow (c, (z,) y, x) at the far ends, by reflection, to a size that the network can take."""
    strides = net.strides[-net.spatial :]
    sizes = zip(pixels.shape[1:], strides, net.least, strict=True)
    return _grown(pixels, [max(round_up(size, stride), least) for size, stride, least in sizes])


def _grown(pixels: np.ndarray, size: list[int]) -> np.ndarray:
    beyond = [new - old for old, new in zip(pixels.shape[1:], size, strict=True)]
    if not any(beyond):
        return pixels
    return np.pad(pixels, ((0, 0), *((0, n) for n in beyond)), mode="reflect")
