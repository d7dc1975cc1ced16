"""`validate`: score a model on a split of a data set."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.checkpoint import Header, header_of
from fieldmark.collection.lids import LidsImage, read_dataset, read_split
from fieldmark.core.events import Event
from fieldmark.core.fingerprint import file_hash
from fieldmark.errors import BadFile, BadInput
from fieldmark.evaluate.answers import AnswerScores, score_answers
from fieldmark.workbench.flim.checks import require_file, require_folder
from fieldmark.workbench.flim.options import ValidateOptions, computing
from fieldmark.workbench.flim.vectors import is_vectors, read_vectors, require_features, require_same_kind
from fieldmark.workbench.jobs import run_job

if TYPE_CHECKING:
    from collections.abc import Sequence


class Validation:
    """A model's answers on the images, or feature vectors, of a split that taught it nothing.

    Args:
        options: Which model and images.

    Raises:
        BadFile: There is no such model, folder or split.
        BadInput: The model answers no images, or every image of the split taught it.
    """

    def __init__(self, options: ValidateOptions) -> None:
        self.options = options
        self.header = classifier_header(options.model_path)
        self._folder = Path(tempfile.mkdtemp(prefix="fieldmark-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        images = self._samples()
        what = "samples" if is_vectors(options.dataset_dir) else "images"
        self.images = [one for one in images if not _taught(one, self.header)]
        self.notes: list[str] = []
        if left_out := len(images) - len(self.images):
            self.notes.append(f"{left_out} of {len(images)} {what} taught the model and were left out.")
        if not self.images:
            raise BadInput(f"All {len(images)} {what} of {options.val_split} taught the model. Name others with -vs.")
        self._scores: AnswerScores | None = None

    def events(self) -> Iterator[Event]:
        """Answer the images in a worker; afterwards `scores` is there."""
        target = self._folder / "answers.json"
        yield from run_job(self._job(target), self._folder / "job.json")
        rows = json.loads(target.read_text(encoding="utf-8"))
        names = [spec.name for spec in self.header.classes]
        unknown = sorted({one.klass for one in self.images} - {int(name) for name in names if name.isdecimal()})
        names += [str(klass) for klass in unknown]  # the model never answers these, and they count as its mistakes
        if unknown:
            self.notes.append(f"Classes {', '.join(map(str, unknown))} are unknown to the model: it cannot be right.")
        truth = np.array([names.index(str(one.klass)) for one in self.images])
        self._scores = score_answers(truth, np.array([names.index(row["class"]) for row in rows]), names)

    @property
    def scores(self) -> AnswerScores:
        if self._scores is None:
            raise RuntimeError("the events are to be followed first")
        return self._scores

    def lines(self) -> list[str]:
        return self.scores.lines()

    def values(self) -> dict[str, Any]:
        return self.scores.to_json() | {"notes": self.notes}

    def _samples(self) -> list[LidsImage]:
        """The images of the split, or its feature vectors as images."""
        options = self.options
        require_same_kind(self.header, options.model_path, options.dataset_dir)
        if not is_vectors(options.dataset_dir):
            return split_images(options.dataset_dir, options.val_split, "-vs")
        vectors = read_vectors(options.dataset_dir)
        require_features(self.header, options.model_path, vectors)
        return vectors.unpack(vectors.places(require_file(options.val_split, "-vs")), self._folder / "samples")

    def _job(self, target: Path) -> dict[str, Any]:
        return {
            "kind": "answer",
            "model": str(self.options.model_path),
            "name": self.options.model_path.name,
            "images": image_items(self.images),
            "target": str(target),
            **computing(self.options.gpus),
        }


def classifier_header(path: Path) -> Header:
    """The header of a model that answers images.

    Raises:
        BadFile: It is no model folder.
        BadInput: It answers no images.
    """
    if path.is_file():
        raise BadFile(
            path,
            "is a file; a model is the folder that `fieldmark flim train` writes. Weights of others are converted "
            "with `fieldmark models import`.",
        )
    header = header_of(path)
    if "image-classes" not in header.outputs:
        raise BadInput(
            f"Model {str(path)!r} gives {', '.join(header.outputs)}, and no classes of images. Train it with a "
            "training split (-d -ts), for one epoch (-e) or more."
        )
    return header


def split_images(dataset: Path, split: Path, flag: str) -> list[LidsImage]:
    """The images of a split of a data set."""
    folder = require_folder(dataset, "-d")
    return read_split(require_file(split, flag), read_dataset(folder), folder)


def image_items(images: Sequence[LidsImage]) -> list[dict[str, Any]]:
    """Images as a worker's job names them."""
    return [{"name": one.name, "uri": one.path.resolve().as_posix()} for one in images]


def _taught(one: LidsImage, header: Header) -> bool:
    return file_hash(one.path) in {taught.content_hash for taught in header.taught}
