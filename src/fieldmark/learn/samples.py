"""What a fit learns from: images, pixels that people marked, and answers for whole images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.axes import AS_IS
from fieldmark.core.fingerprint import require_content
from fieldmark.core.geometry import Box, Tile, TilePlan
from fieldmark.infer.forward import require_numbers
from fieldmark.infer.tiles import plan_tiles, with_channels
from fieldmark.learn.blocks import Blocks
from fieldmark.prepare import Whole, apply

if TYPE_CHECKING:
    from fieldmark.core.axes import Factors
    from fieldmark.images import ImageSource
    from fieldmark.learn.foreground import Foreground
    from fieldmark.learn.splits import Split
    from fieldmark.learn.targets import Targets

OPEN_IMAGES = 4


@dataclass(frozen=True, slots=True)
class SampleImage:
    """One image of a fit; `name` is what the user calls it."""

    name: str
    uri: str
    content_hash: str
    target: str = ""
    """The file of its label map or target image; empty for none."""
    target_hash: str = ""
    mask: str = ""
    """The file of its mask; empty for none."""
    mask_hash: str = ""
    group: str = ""
    split: str = ""
    column: str = ""
    """What the column says that images are parted by; empty for nothing."""
    numbers: Sequence[float | None] = ()
    """What a table says of the whole image, None for unknown; `target_hash` is of them."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Marked pixels, one row each; unmarked pixels are simply absent.

    Args:
        image: (N,) place of the image in `Samples.images`.
        place: (N, 4) t, z, y, x.
        stroke: (N,) the stroke that owns the pixel.
        klass: (N,) place of its class among the model's classes.
    """

    image: np.ndarray
    place: np.ndarray
    stroke: np.ndarray
    klass: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    def where(self, chosen: np.ndarray) -> Marks:
        return Marks(self.image[chosen], self.place[chosen], self.stroke[chosen], self.klass[chosen])

    def arrays(self) -> dict[str, np.ndarray]:
        return {"image": self.image, "place": self.place, "stroke": self.stroke, "klass": self.klass}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Marks:
        return cls(**{name: np.asarray(arrays[name], np.int64) for name in ("image", "place", "stroke", "klass")})

    @classmethod
    def none(cls) -> Marks:
        empty = np.zeros(0, np.int64)
        return cls(empty, np.zeros((0, 4), np.int64), empty, empty)


@dataclass(frozen=True, slots=True)
class Answers:
    """The class of whole images, one row each; an image that nobody answered is simply absent.

    Args:
        image: (N,) place of the image in `Samples.images`; each at most once.
        klass: (N,) place of its class among the model's classes.
    """

    image: np.ndarray
    klass: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    def arrays(self) -> dict[str, np.ndarray]:
        """By names that stand beside those of `Marks`."""
        return {"answer_image": self.image, "answer_klass": self.klass}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Answers:
        """What `arrays` gave; without them, no image is answered."""
        empty = np.zeros(0, np.int64)
        return cls(*(np.asarray(arrays.get(f"answer_{name}", empty), np.int64) for name in ("image", "klass")))

    @classmethod
    def none(cls) -> Answers:
        return cls.from_arrays({})


class Samples:
    """The images, marks and answers of one fit, read lazily.

    Args:
        images: Every image of the fit.
        marks: Pixels that people marked on them.
        classes: How many classes the marks may have.
        max_bytes: Limit for formats that are decoded whole; None for the default.
        answers: Classes of whole images; None where nobody answered.
    """

    def __init__(
        self,
        images: list[SampleImage],
        marks: Marks,
        classes: int,
        *,
        max_bytes: int | None = None,
        answers: Answers | None = None,
    ) -> None:
        self.images = images
        self.marks = marks
        self.answers = answers if answers is not None else Answers.none()
        self.classes = classes
        self.preparation: list[dict[str, Any]] = []
        self.resize = AS_IS
        """The factors along z, y and x that images, targets and masks are read with; marks lie in what is read."""
        self.target_preparation: list[dict[str, Any]] = []
        self.targets: Targets | None = None
        self.split: Split | None = None
        self.taught: list[int] | None = None
        """Places of the images that teach or choose; None for those with marks or answers."""
        self.foreground: Foreground | None = None
        """What `train.min_fraction` is a fraction of; None for what the targets say."""
        self.class_names: tuple[str, ...] = ()
        self.blocks = Blocks()
        """What is read again and again in training on targets: pixels of images, targets and masks."""
        self._max_bytes = max_bytes
        self.source = lru_cache(maxsize=OPEN_IMAGES)(self._open)
        self.whole = lru_cache(maxsize=None)(self._whole)

    def _open(self, index: int) -> ImageSource:
        from fieldmark.images import open_image

        image = self.images[index]
        return self.at_size(open_image(Path(image.uri), shown=image.name, max_bytes=self._max_bytes))

    def at_size(self, source: ImageSource, *, nearest: bool = False) -> ImageSource:
        """An image at the size at which it teaches; with `nearest` its values are kept, as those of label maps."""
        if self.resize == AS_IS:
            return source
        from fieldmark.images.resized import ResizedSource

        return ResizedSource(source, self.resize, "nearest" if nearest else "linear")

    def resize_by(self, factors: Factors) -> None:
        """Read everything at another size from now on. To be called before anything is read."""
        if factors == self.resize:
            return
        sizes = [self.shape(index)[2:] for index in range(len(self.images))]
        self.resize = factors
        self.source.cache_clear()
        self.blocks = Blocks()
        self.marks = resized_marks(self.marks, sizes, factors)

    def _whole(self, index: int) -> Whole:
        """What preparations ask of a whole image; it is read once."""
        return Whole(
            lambda: self.source(index),
            resized=self.resize,
            keep=lambda name, make: self.blocks.get(("volume", index, *name), make),
        )

    def unseen(self, z: int) -> frozenset[int]:
        """See `Split.unseen`; none where images are not parted, or nobody has parted them yet."""
        return frozenset() if self.split is None else self.split.unseen(z)

    def shape(self, index: int) -> tuple[int, int, int, int, int]:
        """Pixels of an image along t, c, z, y, x; the file is opened once for that."""
        return self.blocks.facts(("image", index), lambda: self.source(index)).shape

    def types(self, channels: Sequence[int] = ()) -> dict[np.dtype, str]:
        """Each type that channels of the images have (all, where none is named), and the first image that has it."""
        found: dict[np.dtype, str] = {}
        for index, image in enumerate(self.images):
            own = self.blocks.facts(("image", index), partial(self.source, index)).channels
            for dtype in [own[channel] for channel in channels if channel < len(own)] or own:
                found.setdefault(dtype, image.name)
        return found

    def require_unchanged(self) -> None:
        """Raise BadFile, which names the image, where a file is not what it was when the fit was begun."""
        for image in self.images:
            require_content(Path(image.uri), image.content_hash, image.name)
            for file, digest in ((image.target, image.target_hash), (image.mask, image.mask_hash)):
                if file:
                    require_content(Path(file), digest, f"{Path(file).name} (of {image.name})")

    def read(self, index: int, box: Box, *, spatial: int = 2) -> np.ndarray:
        """Prepared pixels, float32: (C, y, x) for a box over t, z, y, x of one t and z; (C, z, y, x) with 3 axes."""
        return apply(
            self.raw(index, box, spatial=spatial, steps=self.preparation), self.whole(index).at(self.preparation, box)
        )

    def raw(self, index: int, box: Box, *, spatial: int = 2, steps: Sequence[dict[str, Any]] = ()) -> np.ndarray:
        """The same pixels as the file holds them, by way of the planes that are kept decoded.

        Raises BadInput, which names the image, for NaN and infinity in the channels that the steps take.
        """
        wanted = with_channels(box, self.shape(index)[1])
        block = self.blocks.read(("image", index), lambda: self.source(index), wanted)[0]
        pixels: np.ndarray = block if spatial == 3 else block[:, 0]
        require_numbers(pixels, self.images[index].name, steps)
        return pixels

    def marked_tiles(
        self, *, tile: int, stride: int | tuple[int, int, int], radius: int | tuple[int, int, int]
    ) -> Iterator[tuple[int, Tile, np.ndarray]]:
        """Tiles that hold marks, in order: (image, tile, rows of `marks` in its core); see `tiles_of`."""
        return self.tiles_of(self.marks.image, self.marks.place, tile=tile, stride=stride, radius=radius)

    def tiles_of(
        self,
        images: np.ndarray,
        places: np.ndarray,
        *,
        tile: int,
        stride: int | tuple[int, int, int],
        radius: int | tuple[int, int, int],
    ) -> Iterator[tuple[int, Tile, np.ndarray]]:
        """Tiles that hold pixels at (N, 4) t, z, y, x of (N,) images, in order: (image, tile, rows in its core).

        Stride and radius are along y and x, or along z, y, x.

        Memory follows the tile: an image of any size is never read whole.
        """
        for index in np.unique(images):
            rows = np.flatnonzero(images == index)
            shape = self.shape(int(index))
            strides = (1, stride, stride) if isinstance(stride, int) else stride
            halo = (0, radius, radius) if isinstance(radius, int) else radius
            plan = plan_tiles(shape, tile=tile, stride=strides, halo=halo)
            inside = _by_tile(rows, places[rows], plan)
            for tile_box in plan:
                if tile_box.index in inside:
                    yield int(index), tile_box, inside[tile_box.index]


def _by_tile(rows: np.ndarray, places: np.ndarray, plan: TilePlan) -> dict[int, np.ndarray]:
    """(N,) rows of pixels at (N, 4) t, z, y, x, in their order, by the index of the tile whose core holds them."""
    owner = tuple((places // np.array(plan.tile)).T)
    index = np.ravel_multi_index(owner, tuple(-(-n // side) for n, side in zip(plan.shape, plan.tile, strict=True)))
    order = np.argsort(index, kind="stable")
    first = np.flatnonzero(np.diff(index[order], prepend=-1))
    return {int(index[part[0]]): rows[part] for part in np.split(order, first[1:])}


def resized_marks(marks: Marks, sizes: Sequence[tuple[int, ...]], factors: Factors) -> Marks:
    """Marks on images that were resized.

    Along axes that shrink, a new pixel is marked as the old one nearest to its middle is; along those that grow, an old
    pixel's mark is that of all new ones whose middles lie in it.

    Args:
        marks: On images as they are.
        sizes: Slices, height and width of each image.
        factors: Along z, y and x.
    """
    from fieldmark.images.resized import scaled_shape

    made = [Marks.none()]
    for index in np.unique(marks.image):
        old = sizes[int(index)]
        new = scaled_shape(old, factors)
        small = tuple(min(pair) for pair in zip(old, new, strict=True))
        own = _shrunk_marks(marks.where(marks.image == index), old, small)
        made.append(_grown_marks(own, [_axis(*pair) for pair in zip(small, new, strict=True)]))
    names = ("image", "place", "stroke", "klass")
    return Marks(*(np.concatenate([getattr(one, name) for one in made]) for name in names))


def _axis(old: int, new: int) -> list[np.ndarray]:
    """The new pixels of an axis whose middles lie in each old one."""
    own = np.minimum((np.arange(new) + 0.5) * (old / new), old - 1).astype(np.int64)
    return [np.flatnonzero(own == place) for place in range(old)]


def _grown_marks(own: Marks, axes: list[list[np.ndarray]]) -> Marks:
    """`axes` hold the new pixels of each old slice, row and column."""
    spread = [[new[place] for new, place in zip(axes, at, strict=True)] for at in own.place[:, 1:]]
    rows = np.repeat(np.arange(len(own)), [prod(len(new) for new in each) for each in spread])
    grown = own.where(rows)
    place = grown.place.copy()
    cells = [np.stack(np.meshgrid(*each, indexing="ij"), -1).reshape(-1, 3) for each in spread]
    place[:, 1:] = np.concatenate([np.zeros((0, 3), np.int64), *cells])
    return Marks(grown.image, place, grown.stroke, grown.klass)


def _shrunk_marks(own: Marks, old: tuple[int, ...], new: tuple[int, ...]) -> Marks:
    ratio = np.array([after / before for before, after in zip(old, new, strict=True)])
    exact = (own.place[:, 1:] + 0.5) * ratio
    place = own.place.copy()
    place[:, 1:] = exact.astype(np.int64)
    far = ((exact - place[:, 1:] - 0.5) ** 2).sum(axis=1)
    order = np.lexsort((far, *place.T[::-1]))
    first = np.ones(len(order), bool)
    first[1:] = (place[order][1:] != place[order][:-1]).any(axis=1)
    kept = np.sort(order[first])
    return Marks(own.image[kept], place[kept], own.stroke[kept], own.klass[kept])
