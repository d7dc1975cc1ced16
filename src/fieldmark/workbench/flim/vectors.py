"""OPF data sets in the place of images: each feature vector is an image of one pixel with a band for each feature.

So features go the way of all images: one training, one model, one prediction. The network has no filters, and its
classifier sees the features as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from fieldmark.checkpoint import Header
from fieldmark.checkpoint.header import MOST_CHANNELS
from fieldmark.collection.lids import MOST_CLASSES, LidsImage, split_names
from fieldmark.errors import BadFile, BadInput, NothingLabelled, some
from fieldmark.features.opf import read_opf
from fieldmark.images.writers.mimg import write_mimg
from fieldmark.recipes import FitRecipe
from fieldmark.workbench.flim.options import TrainOptions

FAMILY = "flim-net"
NO_FILTERS: dict[str, Any] = {"features": {"type": "sequential", "layers": {}}}
"""The architecture whose features are what it is given."""

_NUMBERS = re.compile(r"(\d{1,9})_(\d{1,9})")
_LONGEST_NAME = 200
_TOGETHER = 512
"""Files in a folder: each new one looks at all others there."""


def is_vectors(path: Path | None) -> bool:
    """Whether a data set is an OPF archive, by its name: `X.zip`, and no folder."""
    return path is not None and path.suffix.lower() == ".zip" and not path.is_dir()


@dataclass(frozen=True, eq=False)
class VectorSet:
    """The samples of an OPF data set.

    Args:
        path: The archive.
        feat: (N, F) float32.
        klass: (N,) true labels from 1; 0 where there is none.
        names: Of the N samples: the files that they came from, without folders, or else `CLASS_ID`.
    """

    path: Path
    feat: np.ndarray
    klass: np.ndarray
    names: tuple[str, ...]

    def places(self, file: Path) -> list[int]:
        """The samples that a split file names, one name a line, in its order.

        A name is that of the file that the sample came from; what stands after its first dot, and zeros before
        numbers, may differ: `000001_00000007.png`, `000001_00000007` and `1_7` are one.

        Raises:
            BadFile: A name that no sample has or several have, a sample without a true label, or with features that
                are no numbers.
        """
        exact, loose = _by(list(self.names)), _by([_short(name) for name in self.names])
        found = {name: exact.get(name) or loose.get(_short(name), []) for name in split_names(file)}
        if missing := [name for name, places in found.items() if not places]:
            raise BadFile(
                file,
                f"it names {len(missing)} samples that {self.path} does not have: {some(missing)}. Samples there are "
                f"called {some(self.names, 3)}. Correct the names.",
            )
        if several := [name for name, places in found.items() if len(places) > 1]:
            raise BadFile(
                file,
                f"it names {some(several)}, and {self.path} has several samples of that name. Write the data set with "
                "a name for each sample (ref_data.csv), or with different ids in a class.",
            )
        chosen = list(dict.fromkeys(places[0] for places in found.values()))
        self._require_whole(chosen)
        return chosen

    def unpack(self, places: Sequence[int], folder: Path) -> list[LidsImage]:
        """Samples as `.mimg` images of one pixel below `folder`; those that are there already stay as they are."""
        images = []
        for place in places:
            name = self.names[place]
            file = folder / f"{place // _TOGETHER:04d}" / f"{quote(name, safe='')}.mimg"
            if not file.is_file():
                write_mimg(file, self.feat[place].reshape(-1, 1, 1))
            images.append(LidsImage(file, name, int(self.klass[place])))
        return images

    def _require_whole(self, places: Sequence[int]) -> None:
        silent = [self.names[place] for place in places if not 1 <= self.klass[place] <= MOST_CLASSES]
        if silent:
            raise BadFile(
                self.path,
                f"{len(silent)} samples have no true label from 1 to {MOST_CLASSES}: {some(silent)}. Give them one, or "
                "take them out of the split.",
            )
        broken = [self.names[place] for place in places if not np.isfinite(self.feat[place]).all()]
        if broken:
            raise BadFile(
                self.path,
                f"{len(broken)} samples have features that are NaN or infinite: {some(broken)}. Correct them, or take "
                "them out of the split.",
            )


def read_vectors(path: Path) -> VectorSet:
    """Read an OPF data set.

    Raises:
        BadFile: There is none, it is damaged, or a name in it is too long.
    """
    if not path.is_file():
        raise BadFile(path, "-d wants a folder of images or an OPF data set (.zip), and there is none. Check the name.")
    data = read_opf(path)
    if data.feat.shape[1] > MOST_CHANNELS:
        raise BadFile(
            path, f"it holds {data.feat.shape[1]:,} features a sample; a model takes {MOST_CHANNELS:,}. Write fewer."
        )
    numbers = zip(data.true_label.tolist(), data.id.tolist(), strict=True)
    names = tuple(Path(name.strip()).name for name in data.names) or tuple(f"{a}_{b}" for a, b in numbers)
    if too_long := [name for name in names if len(quote(name, safe="")) > _LONGEST_NAME]:
        raise BadFile(path, f"it holds a name of {len(too_long[0])} letters: {too_long[0][:40]}... Shorten it.")
    return VectorSet(path, data.feat, data.true_label, names)


def takes_vectors(header: Header) -> bool:
    """Whether a model judges feature vectors: it has no filter, and sees images of one pixel."""
    match header.config:
        case {"arch": {"features": {"layers": dict(layers)}}, "image_head": {"look": {"size": [1, 1]}}}:
            return not layers
        case _:
            return False


def require_same_kind(header: Header, model: Path, dataset: Path) -> None:
    """Raise BadInput where a model of images is given features, or the other way round."""
    if takes_vectors(header) == is_vectors(dataset):
        return
    if is_vectors(dataset):
        raise BadInput(
            f"Model {str(model)!r} judges images, and {dataset} holds features. Give the folder of images (-d), or "
            "train a model on features: fieldmark flim train -d X.zip."
        )
    raise BadInput(
        f"Model {str(model)!r} judges the features of an OPF data set, and {dataset} is none. Give such a data set: "
        "-d X.zip."
    )


def require_images(header: Header, model: Path, why: str) -> None:
    """Raise BadInput for a model that judges features."""
    if takes_vectors(header):
        raise BadInput(f"Model {str(model)!r} judges the features of an OPF data set, and {why}. Give another model.")


def require_features(header: Header, model: Path, vectors: VectorSet) -> None:
    """Raise BadInput where a data set has more or fewer features than those that taught the model."""
    if vectors.feat.shape[1] != header.channels:
        raise BadInput(
            f"Model {str(model)!r} was taught by {header.channels} features a sample, and {vectors.path} has "
            f"{vectors.feat.shape[1]}. Give features of the same layer, of images of the same size."
        )


def refuse_pixels(options: TrainOptions) -> None:
    """Raise where `train` is asked for what needs images.

    Raises:
        BadInput: A flag that is about pixels, filters or layers.
        NothingLabelled: No split.
    """
    reasons = (
        ("-md", options.markers_dir is not None, "there are no pixels to mark"),
        ("-ld", options.load_lids_model or options.lids_model_dir is not None, "no filter is applied to them"),
        ("-i", options.intermediate or bool(options.layers), "there are no layers to write"),
        ("-rb", options.remove_border > 0, "they have no border"),
    )
    for flag, given, why in reasons:
        if given:
            raise BadInput(f"{flag}: {options.dataset_dir} holds features instead of images, and {why}. Leave it out.")
    if options.train_split is None:
        raise NothingLabelled(
            f"A classifier learns from the samples that a split names. Say which of {options.dataset_dir}: "
            "-ts SPLIT.txt."
        )


def require_no_filters(recipe: FitRecipe, dataset: Path) -> None:
    """Raise BadInput where a recipe has filters, which features cannot go through."""
    if recipe.family != FAMILY:
        raise BadInput(f"{dataset} holds features; {recipe.family} judges images. Leave family={recipe.family} out.")
    match recipe.net:
        case {"arch": {"features": {"layers": dict(layers)}}} if layers:
            raise BadInput(
                f"{dataset} holds features, and the architecture has filters ({some(list(layers))}). Leave -ad out, or "
                'give a classifier alone: {"features": {"layers": {}}, "classifier": ...}.'
            )


def _short(name: str) -> str:
    """What two spellings of a sample's name share: no ending, no zeros before class and id."""
    stem = name.partition(".")[0]
    numbers = _NUMBERS.fullmatch(stem)
    return f"{int(numbers[1])}_{int(numbers[2])}" if numbers else stem


def _by(names: list[str]) -> dict[str, list[int]]:
    """The places that each name stands at."""
    found: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        if not name:
            continue  # a line of ref_data.csv that says nothing: no name leads to that sample
        found.setdefault(name, []).append(place)
    return found
