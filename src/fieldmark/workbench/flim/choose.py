"""`select`, `split` and `arch`: what comes before training."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.checkpoint import header_of
from fieldmark.collection.lids import (
    LidsImage,
    read_dataset,
    read_split,
    split_file,
    stratified,
    with_class,
    write_splits,
)
from fieldmark.core.events import Event
from fieldmark.core.files import write_atomic
from fieldmark.errors import BadFile, BadInput, BadRecipe
from fieldmark.images import open_image, thumbnail
from fieldmark.select.cover import per_class
from fieldmark.workbench.flim.checks import require_file, require_folder
from fieldmark.workbench.flim.options import SelectOptions
from fieldmark.workbench.flim.validate import image_items
from fieldmark.workbench.flim.vectors import require_images
from fieldmark.workbench.jobs import run_job
from fieldmark.workbench.originals import refuse_inside

SIDE = 16
"""Without a model, images are compared by their colors at SIDE x SIDE pixels."""
FLAGS = {"train": "-ts", "val": "-vs", "test": "-tts"}
"""What says how large each part of a split is."""


class Choosing:
    """The images of a split that are worth marking.

    Args:
        options: Where from, how many and how.

    Raises:
        BadFile: There is no such data set, split or model.
        BadInput: `markers_dir` lies in the data set.
    """

    def __init__(self, options: SelectOptions) -> None:
        self.options = options
        dataset = require_folder(options.dataset_dir, "-d")
        refuse_inside(options.markers_dir, [dataset], "-d")
        self.images = read_split(require_file(options.split, "-s"), read_dataset(dataset), dataset)
        self._header = None if options.model is None else header_of(options.model)
        if options.model is not None and self._header is not None:
            require_images(self._header, options.model, "images are to be compared")
        self.names: list[str] = []
        """Of the chosen images, class after class; known once the events are followed."""

    def events(self) -> Iterator[Event]:
        """Copy the chosen images into `markers_dir`.

        Raises:
            BadInput: A file of that name is there already, with another content.
        """
        vectors = yield from self._vectors()
        classes = np.array([one.klass for one in self.images])
        options = self.options
        chosen = per_class(vectors, classes, options.n_images_per_class, how=options.how, seed=options.seed)
        for place in chosen:
            _copy(self.images[place], options.markers_dir)
        self.names = [self.images[place].name for place in chosen]

    def _vectors(self) -> Generator[Event, None, np.ndarray]:
        """(N, F) what images are compared by; drawing by chance looks at none."""
        if self.options.how == "random":
            return np.zeros((len(self.images), 1))
        if self.options.model is None:
            return np.stack([_colors(one) for one in self.images])
        with tempfile.TemporaryDirectory(prefix="fieldmark-") as folder:
            target = Path(folder) / "vectors.npy"
            job = {
                "kind": "vectors",
                "model": str(self.options.model),
                "name": self.options.model.name,
                "images": image_items(self.images),
                "target": str(target),
            }
            yield from run_job(job, Path(folder) / "job.json")
            return _evenly(np.load(target, allow_pickle=False))


def split_dataset(
    folder: Path, name: str, train: float, val: float | None, test: float | None, *, seed: int
) -> tuple[list[tuple[Path, int]], list[str]]:
    """Write `NAME-train.txt` and the others.

    Args:
        folder: The data set.
        name: What the files' names begin with; it may hold a path.
        train: A share below 1, or a number of images; `val` and `test` alike.
        val: None for no such file.
        test: None for all that is left.
        seed: Decides the draw.

    Returns:
        The files with the number of names in each, 0 for one that was not written, and the images without a class,
        which no split can hold.

    Raises:
        BadFile: No image has a class.
        BadInput: Sizes that cannot be, no image to train on, or a file of another split that would be taken for a part
            of this one.
    """
    require_folder(folder, "-d")
    refuse_inside(Path(f"{name}-train.txt").parent, [folder], "-d")
    images = read_dataset(folder)
    parts = stratified(with_class(images, folder), train, val, test, seed=seed)
    if not parts["train"]:
        raise BadInput(f"-ts {train:g}: no image would be left to train on. Ask for more.")
    _refuse_leftovers(Path(name), parts)
    write_splits(Path(name), parts)
    files = [(split_file(Path(name), part), len(own)) for part, own in parts.items()]
    return files, [one.name for one in images if not one.klass]


def _refuse_leftovers(name: Path, parts: dict[str, list[LidsImage]]) -> None:
    """Raise BadInput, before anything is written, for a file of an earlier split that this one has no images for."""
    for part, flag in FLAGS.items():
        file = split_file(name, part)
        if not parts.get(part) and file.exists():
            raise BadInput(
                f"{file} is there already, of another split, and this one has no images for it. Move it away, ask for "
                f"such images ({flag}), or choose another name (-n)."
            )


def write_architecture(layers: Path, target: Path) -> None:
    """Turn a list of layers as JSON, an architecture, or a folder of libIFT's layer files into an architecture file.

    Raises:
        BadRecipe: A layer that is not understood; the message names its path.
        BadInput: The target is there already.
    """
    from fieldmark.recipes.dialects.flim_arch import layers_as_arch, write_arch

    if target.exists():
        raise BadInput(f"{target} is there already. Choose another -a, or move it away.")
    write_arch(layers_as_arch(_layer_values(layers), source=layers), target)


def _layer_values(path: Path) -> Any:
    """What the file says; a folder's `convlayerseeds-layer1.json`, ... as one architecture of that dialect."""
    if not path.is_dir():
        return _json(require_file(path, "-l"))
    files: list[Path] = []
    while (file := path / f"convlayerseeds-layer{len(files) + 1}.json").is_file():
        files.append(file)
    if not files:
        raise BadFile(path, "holds no convlayerseeds-layer1.json. Name a file with a list of layers.")
    layers = {f"layer{number}": _json(file) for number, file in enumerate(files, start=1)}
    return {"nlayers": len(files), **layers}


def _json(path: Path) -> Any:
    from fieldmark.recipes.texts import parse_json

    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise BadRecipe(f"{path}: is not UTF-8 text (byte {error.start}). Name a JSON file.") from error
    except ValueError as error:
        raise BadRecipe(f"{path}: cannot be parsed ({error}). Correct the file.") from error


def _colors(one: LidsImage) -> np.ndarray:
    """(F,) float64: the image at SIDE x SIDE pixels, its proportions not kept."""
    with open_image(one.path, shown=one.name) as source:
        small = thumbnail(source, 2 * SIDE)
    rows, columns = (np.arange(SIDE) * size // SIDE for size in small.shape[:2])
    return small[np.ix_(rows, columns)].reshape(-1) / 255.0


def _evenly(vectors: np.ndarray) -> np.ndarray:
    """(N, F) float64 of zero mean and unit spread: no feature drowns the others by its unit."""
    centered = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    spread = centered.std(axis=0)
    even: np.ndarray = centered / np.where(spread > 0, spread, 1.0)
    return even


def _copy(one: LidsImage, folder: Path) -> None:
    target, data = folder / one.name, one.path.read_bytes()
    if target.exists() and target.read_bytes() != data:
        raise BadInput(f"{target} is there already and is another image. Choose another -md, or move it away.")
    write_atomic(target, data)
