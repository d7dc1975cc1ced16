"""The methods of `benchmarks.microscopy`: our U-Net, MONAI's in a plain loop, and features with a forest or ridge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.microscopy_data import Pair, Problem, paint, pixels
from fieldmark.checkpoint import ClassSpec
from fieldmark.core.fingerprint import file_hash
from fieldmark.core.seeds import derive_seed
from fieldmark.evaluate.baselines import forest, forest_features
from fieldmark.images import open_image
from fieldmark.infer.predict import Model, forward_of, in_target_units, plan_for
from fieldmark.infer.sinks import ArraySink
from fieldmark.infer.tiles import predict_tiles
from fieldmark.learn.lessons import LessonBatches, Shape
from fieldmark.learn.losses import build_loss
from fieldmark.learn.run import FitJob, prepared_net, run_fit
from fieldmark.learn.samples import Marks, SampleImage, Samples
from fieldmark.learn.schedule import rate
from fieldmark.models.build import load_net
from fieldmark.prepare import apply, inverse
from fieldmark.recipes import FitRecipe, PredictRecipe

Answer = Callable[[Path], np.ndarray]
"""From an image file to (K, y, x): shares of the classes, or values of the target's channels."""
Method = Callable[[Problem, int, Path, dict[str, Any]], Answer]
"""From a problem, a seed, a folder to work in and settings of `FitRecipe`."""

FOREST_PIXELS = 400_000
"""The most that a forest or a ridge regression learns from; of more, so many are drawn by chance."""
STRIDE = 16
"""Of BasicUNet."""


NO_VALIDATION = {"train": 1.0, "validation": 0.0, "test": 0.0}


def ours(net: dict[str, Any], *, validation: bool = True) -> Method:
    """The family `unet` with settings of the network, through `run_fit` and `predict_tiles`.

    A fifth of the images chooses the epoch, as by default; without validation all of them teach, as they teach the
    peers, and the last epoch's weights are taken.
    """

    def fit(problem: Problem, seed: int, folder: Path, settings: dict[str, Any]) -> Answer:
        problem = problem if validation else without_validation(problem)
        for _ in run_fit(_job(problem, seed, folder, settings, net)):
            pass
        header, fitted = load_net(folder / "model")
        model = Model("unet", header, fitted)
        return lambda path: answer_of(model, path)

    return fit


def answer_of(model: Model, path: Path) -> np.ndarray:
    """What a model says of an image, tile by tile: shares, or values in the units of the target."""
    output = "classes" if "classes" in model.header.outputs else "image"
    channels = len(model.header.classes) or int(model.header.config["out_channels"])
    recipe = PredictRecipe(precision="bf16")
    with open_image(path) as source:
        forward = forward_of(model, recipe, output, source=source)
        sink = ArraySink(source.shape, channels)
        for _ in predict_tiles(forward, source, plan_for(model, source, recipe, path.name), sink):
            pass
    answers = sink.answers if output == "classes" else in_target_units(model.header, sink.answers)
    plane: np.ndarray = answers[0, :, 0]
    return plane


def basic_unet(problem: Problem, seed: int, folder: Path, settings: dict[str, Any]) -> Answer:
    """MONAI's BasicUNet with its own widths: the same crops, loss, rates and epochs in a plain loop.

    It learns from every image that teaches, and the last weights are taken.
    """
    from monai.networks.nets import BasicUNet

    job = _job(without_validation(problem), seed, folder, settings, {})
    _, config, _ = prepared_net(job)
    samples, train = job.samples, job.recipe.train
    if samples.targets is None or samples.split is None:
        raise RuntimeError("a problem has targets")
    like, _, _ = prepared_net(job)
    batches = LessonBatches(samples, samples.targets, Shape.of(like, train), train, samples.split.train, seed)
    torch.manual_seed(derive_seed(seed, "peer") % 2**63)
    net = BasicUNet(2, like.channels, int(config["out_channels"])).train()
    loss = build_loss(train.loss, classes=samples.targets.classes, span=samples.targets.span)
    descent = torch.optim.AdamW(net.parameters(), lr=train.lr, weight_decay=train.weight_decay)
    total = train.epochs * batches.per_epoch
    for step in range(total):
        lesson = batches.get(*divmod(step, batches.per_epoch))
        descent.param_groups[0]["lr"] = rate(train, step, batches.per_epoch, total)
        descent.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            scores = net(lesson.x)
        loss(scores.float(), lesson.target, lesson.weight).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), train.clip_norm or torch.inf)
        descent.step()
    net.eval()

    def predict(path: Path) -> np.ndarray:
        scores = _padded(net, torch.from_numpy(apply(_raw(problem, path), samples.preparation)))
        if problem.classes:
            return np.asarray(scores.softmax(dim=0).numpy())
        return np.asarray(apply(scores.numpy(), inverse(samples.target_preparation)))

    return predict


def without_validation(problem: Problem) -> Problem:
    return replace(problem, data=problem.data | {"split": NO_VALIDATION})


def _raw(problem: Problem, path: Path) -> np.ndarray:
    return pixels(path)


def _padded(net: Any, image: Tensor) -> Tensor:
    """(K, y, x) of a whole image (c, y, x), padded to the stride by reflection and cut back."""
    y, x = image.shape[-2:]
    padded = functional.pad(image[None], (0, -x % STRIDE, 0, -y % STRIDE), mode="reflect")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        answer: Tensor = net(padded)[0, :, :y, :x]
    return answer.float()


def features_forest(problem: Problem, seed: int, folder: Path, settings: dict[str, Any]) -> Answer:
    """scikit-image's features and a forest: the classes of painted pixels, or of drawn ones of label maps."""
    images = [np.moveaxis(pixels(pair.image), 0, -1) for pair in problem.train]
    truth = [places_of(problem, pair) for pair in problem.train]
    labels = _thinned([np.where(known, place + 1, 0) for place, known in _painted(problem, truth, seed)], seed)
    peer = forest(images, labels, classes=[n + 1 for n in range(len(problem.classes))], seed=seed)

    def predict(path: Path) -> np.ndarray:
        found = peer.predict(np.moveaxis(pixels(path), 0, -1), path.name).probabilities
        if found is None:
            raise RuntimeError("a forest has shares")
        return found

    return predict


def features_ridge(problem: Problem, seed: int, folder: Path, settings: dict[str, Any]) -> Answer:
    """The same features of every slice, and ridge regression."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.concatenate([_rows(pair.image) for pair in problem.train])
    values = np.concatenate([pixels(pair.target).reshape(-1) for pair in problem.train]).astype(np.float64)
    rng = np.random.default_rng(derive_seed(seed, "ridge"))
    drawn = rng.permutation(len(features))[:FOREST_PIXELS]
    model = make_pipeline(StandardScaler(), Ridge(1.0)).fit(features[drawn], values[drawn])

    def predict(path: Path) -> np.ndarray:
        return np.asarray(model.predict(_rows(path)).reshape(1, *pixels(path).shape[1:]))

    return predict


def _rows(path: Path) -> np.ndarray:
    """(pixels, features)."""
    found = forest_features(np.moveaxis(pixels(path), 0, -1))
    return found.reshape(-1, found.shape[-1])


def classic(problem: Problem, seed: int, folder: Path, settings: dict[str, Any]) -> Answer:
    """The forest for classes, ridge regression for values."""
    method = features_forest if problem.classes else features_ridge
    return method(problem, seed, folder, settings)


METHODS: dict[str, Method] = {
    "U-Net from scratch": ours({}),
    "U-Net from scratch, no validation": ours({}, validation=False),
    "EfficientNet-Lite0, ImageNet": ours({"encoder": "efficientnet-lite0", "weights": "imagenet"}),
    "BasicUNet, plain loop": basic_unet,
    "features + forest / ridge": classic,
}


def places_of(problem: Problem, pair: Pair) -> np.ndarray:
    """(y, x) the place of the class of every pixel that is right."""
    labels = pixels(pair.target)[0].astype(np.int64)
    if problem.data["target"].get("objects") or problem.strokes is not None:
        labels = np.minimum(labels, 1)
    places: np.ndarray = np.searchsorted([value for _, value in problem.classes], labels)
    return places


def _painted(problem: Problem, truth: list[np.ndarray], seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each image: the places of classes, and where somebody has painted (everywhere, with label maps)."""
    if problem.strokes is None:
        return [(place, np.ones(place.shape, bool)) for place in truth]
    return [(place, _strokes(problem, place, seed, n) > 0) for n, place in enumerate(truth)]


def _strokes(problem: Problem, place: np.ndarray, seed: int, number: int) -> np.ndarray:
    return paint(place, problem.strokes or 0.0, derive_seed(seed, "paint", number))


def _thinned(labels: list[np.ndarray], seed: int) -> list[np.ndarray]:
    """At most `FOREST_PIXELS` labelled pixels in all."""
    share = FOREST_PIXELS / max(1, sum(int((one > 0).sum()) for one in labels))
    rng = np.random.default_rng(derive_seed(seed, "thin"))
    return [np.where(rng.random(one.shape) < share, one, 0) for one in labels]


def _job(problem: Problem, seed: int, folder: Path, settings: dict[str, Any], net: dict[str, Any]) -> FitJob:
    """A fit of the family `unet`, as the workbench would begin it."""
    classes = tuple(ClassSpec(id=n + 1, name=name, value=value) for n, (name, value) in enumerate(problem.classes))
    filed = problem.strokes is None
    images = [
        SampleImage(
            pair.image.name,
            str(pair.image),
            file_hash(pair.image),
            target=str(pair.target) if filed else "",
            target_hash=file_hash(pair.target) if filed else "",
        )
        for pair in problem.train
    ]
    marks = Marks.none() if filed else _marks(problem, seed)
    values = {"family": "unet", "net": net, "data": problem.data, "seed": seed, **settings}
    recipe = FitRecipe.model_validate(values | {"precision": "bf16-mixed"})
    return FitJob(recipe, Samples(images, marks, len(classes)), classes, folder)


def _marks(problem: Problem, seed: int) -> Marks:
    parts = []
    for number, pair in enumerate(problem.train):
        place = places_of(problem, pair)
        strokes = _strokes(problem, place, seed, number)
        y, x = np.nonzero(strokes)
        where = np.column_stack([np.zeros((len(y), 2), np.int64), y, x])
        parts.append((np.full(len(y), number), where, strokes[y, x] + 100_000 * number, place[y, x]))
    return Marks(*(np.concatenate(column) for column in zip(*parts, strict=True)))
