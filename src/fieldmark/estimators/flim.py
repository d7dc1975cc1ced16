"""Filters from markers on arrays, in scikit-learn's manner."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from fieldmark.checkpoint import ClassSpec, save
from fieldmark.core.fingerprint import fingerprint
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput, NothingLabelled
from fieldmark.images.source import ArraySource
from fieldmark.infer.predict import Model, forward_of, plan_for
from fieldmark.infer.sinks import ArraySink
from fieldmark.infer.tiles import predict_tiles
from fieldmark.labels.exchange.scribbles import connected_strokes
from fieldmark.learn.run import MODEL, FitJob, run_fit
from fieldmark.learn.samples import Marks, SampleImage, Samples
from fieldmark.models.build import load_net
from fieldmark.models.tensors import arrays_of
from fieldmark.recipes import FitRecipe, PredictRecipe, validate

if TYPE_CHECKING:
    from sklearn.utils import Tags

    from fieldmark.images import ImageSource

Images = Sequence[np.ndarray] | np.ndarray
"""(n, y, x) or (n, y, x, c), or a list of (y, x) or (y, x, c) of any sizes: the first axis counts images."""
Markers = Sequence[np.ndarray | None] | np.ndarray
"""For each image (y, x) integers: 0 for none, else the class; None for an image without markers."""


MOST_VALUE = np.iinfo(np.uint32).max
"""Label maps hold the values of classes in 32 bits."""


class _Transformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin):  # type: ignore[misc]
    """A transformer whose features have names."""


# features are maps of pixels: no table of pandas holds them, whatever scikit-learn is told to wrap answers in
class FLIM(_Transformer, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[misc, call-arg]
    """An encoder whose kernels are learned from markers, without backpropagation, and a classifier of pixels.

    Args:
        arch: An architecture as the document writes it: a dict, or the path of its JSON file. None for the default
            network (`net` changes it).
        net: Settings of the network, as `net.` in a recipe.
        head: How pixels are classified: `forest`, `logistic`, or `none` for features alone; or the settings of a head,
            as `head.` in a recipe, such as `{"kind": "adaptive", "decoder": "mean"}`.
        random_state: The seed; the same one gives the same weights. None or a generator: a seed is drawn in each fit.

    Attributes:
        n_features_in_: Channels of an image.
        classes_: (K,) int64, the marker values that occur. Like all that is learned, it stays where a fit fails.
        header_: What the saved model says of itself.

    >>> features = FLIM().fit(images, markers).transform(images)  # doctest: +SKIP
    """

    def __init__(
        self,
        arch: dict[str, Any] | str | Path | None = None,
        *,
        net: dict[str, Any] | None = None,
        head: Literal["forest", "logistic", "none"] | dict[str, Any] = "forest",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.arch = arch
        self.net = net
        self.head = head
        self.random_state = random_state

    def fit(self, images: Images, markers: Markers | None = None) -> Self:
        """Learn from the marked images.

        A marker is a connected piece of one value. Unmarked pixels and images are unknown: they teach nothing.

        Args:
            images: Of any size, all with the same channels; integers or real numbers.
            markers: One for each image, of its height and width.

        Raises:
            BadInput: Shapes do not fit together; images differ in channels; markers are no integers, or negative.
            NothingLabelled: No pixel is marked.
        """
        arrays = [_channels_first(image, place) for place, image in enumerate(images)]
        maps = _checked_markers(markers, arrays)
        classes = np.unique(np.concatenate([np.unique(one[one > 0]) for one in maps]))
        if not len(classes):
            raise NothingLabelled("No marker has a pixel above 0. Mark some pixels of each class: 1, 2, ...")
        with tempfile.TemporaryDirectory(prefix="fieldmark-") as folder:
            job = FitJob(
                recipe=self._recipe(),
                samples=_ArraySamples(arrays, _marks(maps, classes), len(classes)),
                classes=tuple(ClassSpec(id=int(v), name=str(v), value=int(v)) for v in classes),
                folder=Path(folder),
            )
            for _ in run_fit(job):
                pass
            self._take(Path(folder) / MODEL)
        self.classes_ = classes
        return self

    def transform(self, images: Images) -> Any:
        """(y, x, f) float32 features of each image: (n, y, x, f) where a plain array was given, else a list."""
        return self._answers(images, "features")

    def predict_proba(self, images: Images) -> Any:
        """(y, x, k) float32 probabilities of `classes_` for each image."""
        return self._answers(images, "classes")

    def predict(self, images: Images) -> Any:
        """(y, x) int64 marker values for each image."""
        found = self.predict_proba(images)
        if isinstance(found, list):
            return [self.classes_[one.argmax(axis=-1)] for one in found]
        return self.classes_[found.argmax(axis=-1)]

    def score(self, images: Images, markers: Markers) -> float:
        """The share of the marked pixels that `predict` gets right; unmarked ones do not count.

        Raises NothingLabelled where no pixel is marked.
        """
        found = self.predict(images)
        maps = _checked_markers(markers, [_channels_first(image, place) for place, image in enumerate(images)])
        right = np.concatenate([one[marks > 0] == marks[marks > 0] for one, marks in zip(found, maps, strict=True)])
        if not len(right):
            raise NothingLabelled("No marker has a pixel above 0, so there is nothing to be right about. Mark some.")
        return float(right.mean())

    def save(self, folder: str | Path) -> None:
        """Write a model folder, which every command of Fieldmark takes."""
        check_is_fitted(self)
        save(Path(folder), self.header_, arrays_of(self._model.net))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The model in a folder, ready to use. Its parameters are those of the network, not of the fit."""
        made = cls()
        made._take(Path(folder))
        made.classes_ = np.array([spec.value for spec in made.header_.classes], np.int64)
        return made

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    @property
    def _n_features_out(self) -> int:
        """What `get_feature_names_out` asks for. Raises AttributeError, which it expects, before a fit."""
        return int(self._answer(np.zeros((self.n_features_in_, 1, 1), np.uint8), 0, "features").shape[-1])

    def _take(self, folder: Path) -> None:
        self.header_, net = load_net(folder)
        self.n_features_in_ = self.header_.channels
        self._model = Model("FLIM", self.header_, net)

    def _recipe(self) -> FitRecipe:
        net = dict(self.net or {})
        head = self.head if isinstance(self.head, dict) else {"kind": self.head}
        seed = self.random_state
        if not isinstance(seed, int | np.integer):  # None draws anew in each fit, as everywhere in scikit-learn
            seed = int(check_random_state(seed).randint(np.iinfo(np.int32).max))
        values: dict[str, Any] = {"family": "flim", "net": net, "head": head, "seed": int(seed)}
        if self.arch is not None:
            values |= {"family": "flim-net", "net": net | {"arch": _architecture(self.arch)}}
        return validate(FitRecipe, values)

    def _answers(self, images: Images, output: str) -> Any:
        check_is_fitted(self)
        found = [self._answer(_channels_first(one, place), place, output) for place, one in enumerate(images)]
        stacked = isinstance(images, np.ndarray) and images.dtype != object  # of objects: images of different sizes
        return np.stack(found) if stacked and found else found

    def _answer(self, pixels: np.ndarray, place: int, output: str) -> np.ndarray:
        shown, recipe = f"image {place}", PredictRecipe()
        with ArraySource(pixels, "cyx", shown=shown) as source:
            plan = plan_for(self._model, source, recipe, shown)
            forward = forward_of(self._model, recipe, output, image=shown, source=source)
            sink = _Answers(source.shape)
            for _ in predict_tiles(forward, source, plan, sink):
                pass
        return np.ascontiguousarray(sink.answers[0, :, 0].transpose(1, 2, 0))


class _Answers(ArraySink):
    """Answers in memory, as many channels as come."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape, 0)

    def write(self, core: Box, answers: np.ndarray) -> None:
        if not self.answers.shape[1]:
            t, _, z, y, x = self.answers.shape
            self.answers = np.zeros((t, answers.shape[1], z, y, x), np.float32)
        super().write(core, answers)


class _ArraySamples(Samples):
    """Samples that are in memory already."""

    def __init__(self, arrays: list[np.ndarray], marks: Marks, classes: int) -> None:
        self._arrays = arrays
        images = [SampleImage(f"image {place}", "", _hash(array)) for place, array in enumerate(arrays)]
        super().__init__(images, marks, classes)

    def _open(self, index: int) -> ImageSource:
        return ArraySource(self._arrays[index], "cyx", shown=f"image {index}")

    def require_unchanged(self) -> None:
        pass


def _channels_first(image: Any, place: int) -> np.ndarray:
    """(y, x) or (y, x, c) to (c, y, x)."""
    array = np.asarray(image)
    if array.ndim not in (2, 3) or not array.size:
        raise BadInput(
            f"image {place} has shape {array.shape}; each must be (y, x) or (y, x, c). A single image goes into "
            "a list; volumes are learned from files: fieldmark flim train."
        )
    if array.dtype.kind not in "buif":
        raise BadInput(f"image {place} holds {array.dtype}; give integers or real numbers.")
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def _checked_markers(markers: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """One (y, x) int64 map for each image."""
    if markers is None:
        raise BadInput("FLIM learns from markers, and there are none. Give one for each image, None for one without.")
    given = list(markers)
    if not arrays or len(given) != len(arrays):
        raise BadInput(
            f"There are {len(arrays)} images and {len(given)} markers. Give one for each image, None for none. "
            "A single image goes into a list."
        )
    maps = []
    for place, (one, array) in enumerate(zip(given, arrays, strict=True)):
        marks = np.zeros(array.shape[1:], np.int64) if one is None else np.asarray(one)
        if marks.shape != array.shape[1:]:
            raise BadInput(
                f"marker {place} has shape {marks.shape}; its image is {array.shape[1:]} (y, x).{_volume(marks)}"
            )
        if marks.dtype.kind not in "bui" or marks.min() < 0:
            raise BadInput(f"marker {place} holds {marks.dtype}; give integers from 0, where 0 means not marked.")
        if marks.max() > MOST_VALUE:
            raise BadInput(
                f"marker {place} holds {marks.max()}; the values of classes go up to {MOST_VALUE}. Number them anew."
            )
        maps.append(marks.astype(np.int64))
    return maps


def _volume(marks: np.ndarray) -> str:
    """What to do where markers have a third axis."""
    return " Volumes are learned from files: fieldmark flim train." if marks.ndim == 3 else ""


def _marks(maps: list[np.ndarray], classes: np.ndarray) -> Marks:
    """Marked pixels, each connected piece a stroke of its own."""
    image, places, stroke, klass = [], [], [], []
    strokes = 0
    for index, values in enumerate(maps):
        pieces, _ = connected_strokes(values)
        at = np.argwhere(values > 0)
        image.append(np.full(len(at), index))
        places.append(np.column_stack([np.zeros((len(at), 2), np.int64), at]))
        stroke.append(strokes + pieces[values > 0].astype(np.int64))
        klass.append(np.searchsorted(classes, values[values > 0]))
        strokes += int(pieces.max(initial=0))
    return Marks(*(np.concatenate(parts) for parts in (image, places, stroke, klass)))


def _architecture(arch: dict[str, Any] | str | Path) -> dict[str, Any]:
    from fieldmark.recipes.dialects.flim_arch import arch_of, arch_values, load_arch

    return arch_values(arch_of(arch) if isinstance(arch, dict) else load_arch(Path(arch)))


def _hash(array: np.ndarray) -> str:
    from hashlib import sha256

    pixels = sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return fingerprint([pixels, list(array.shape), str(array.dtype)])
