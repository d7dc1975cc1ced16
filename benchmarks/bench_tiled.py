"""Predict an image of any size on disk, beside a sliding window with the same net.

    python -m benchmarks.bench_tiled ours|peer SIZE fp32|bf16 FOLDER

measures one case in this process and prints it as JSON; `measure` runs each case in a
process of its own and watches its memory.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.machine import bf16_units
from benchmarks.processes import Outcome, run_module
from benchmarks.rows import Row
from fieldmark.core.geometry import Box

if TYPE_CHECKING:
    from fieldmark.images import ImageSource
    from fieldmark.images.writers import ImageWriter
    from fieldmark.infer.predict import Model

CLAIM = "Tiled prediction is at least 1.5 times as fast in fp32 and 2.5 times in bf16, and its memory stays flat."
PEER = (
    "MONAI's `sliding_window_inference` (512 px windows, its default overlap of 0.25), same net, precision and files."
)
SIZES = (2048, 4096, 8192)
PRECISIONS = ("fp32", "bf16")
CLASSES = 2
WINDOW = 512
HERE = "benchmarks.bench_tiled"


def measure(sizes: Sequence[int] = SIZES) -> list[Row]:
    """Speed and memory of both, and how far their answers agree."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for size in sizes:
            run_module(HERE, "image", str(size), "-", name)
            for precision in _precisions(size, sizes):
                ours, peer = (run_module(HERE, who, str(size), precision, name) for who in ("ours", "peer"))
                rows += _rows(f"{size} px, {precision}", size, ours, peer, _agreement(Path(name), size, precision))
    return rows


def _precisions(size: int, sizes: Sequence[int]) -> Sequence[str]:
    """Without bfloat16 units that precision is many times slower: then it is shown once, at the smallest size."""
    return PRECISIONS if bf16_units() or size == min(sizes) else PRECISIONS[:1]


def _rows(case: str, size: int, ours: Outcome, peer: Outcome, agreement: float) -> list[Row]:
    ours_speed, peer_speed = (size * size / 1e6 / outcome.answer["seconds"] for outcome in (ours, peer))
    extra = [outcome.peak_mib - outcome.answer["before_mib"] for outcome in (ours, peer)]
    agreed = f"same class in {agreement:.4%} of the pixels"
    above = f"above the imports: {extra[0]:.0f} and {extra[1]:.0f} MiB"
    return [
        Row(f"{case}: speed", ours_speed, peer_speed, "Mpx/s", more_is_better=True, spread=agreed),
        Row(f"{case}: peak memory", ours.peak_mib, peer.peak_mib, "MiB", spread=above),
    ]


def _agreement(folder: Path, size: int, precision: str) -> float:
    """The share of pixels with the same class, band by band."""
    from fieldmark.images import open_image

    same = 0
    ours_path, peer_path = (_answers(folder, who, size, precision) for who in ("ours", "peer"))
    with open_image(ours_path) as ours, open_image(peer_path) as peer:
        for top in range(0, size, WINDOW):
            band = Box((0, 0, 0, top, 0), (1, 1, 1, min(size, top + WINDOW), size))
            same += int((ours.read(band) == peer.read(band)).sum())
    return same / size**2


def _image(folder: Path, size: int) -> Path:
    return folder / f"image-{size}.ome.zarr"


def _answers(folder: Path, who: str, size: int, precision: str) -> Path:
    return folder / f"{who}-{size}-{precision}.ome.zarr"


def make_image(path: Path, size: int) -> None:
    """Draw bright discs on noise, one band at a time, into an OME-Zarr of uint8."""
    rng = np.random.default_rng(size)
    writer = _writer(path, size)
    x = np.arange(size)
    for top in range(0, size, WINDOW):
        y = np.arange(top, min(size, top + WINDOW))
        discs = np.hypot((y[:, None] % 128) - 64, (x[None] % 128) - 64) < 32
        band = np.where(discs, 150, 80) + rng.normal(0, 25, discs.shape)
        box = Box((0, 0, 0, top, 0), (1, 1, 1, top + len(y), size))
        writer.write(box, band.clip(0, 255).astype(np.uint8)[None, None, None])
    writer.finish()


def _writer(path: Path, size: int) -> ImageWriter:
    from fieldmark.core.axes import PixelSize
    from fieldmark.images.writers import create_writer

    options: dict[str, Any] = {"dtype": np.dtype(np.uint8), "pixel_size": PixelSize(), "chunk": WINDOW}
    return create_writer(path, "ome-zarr", shape=(1, 1, 1, size, size), **options)


def make_model() -> Model:
    """An autoencoder's encoder with a linear head; the same weights in every process."""
    import torch

    from fieldmark.checkpoint import ClassSpec, Header
    from fieldmark.infer.predict import Model
    from fieldmark.models.build import build
    from fieldmark.models.heads import LogisticHead
    from fieldmark.prepare.pipeline import scale_step

    net = build("autoencoder", {}, 1, seed=1).eval()
    head = LogisticHead()
    features = net.features(torch.zeros(1, 1, net.stride, net.stride)).shape[1]
    head.weight = torch.randn(CLASSES, features, generator=torch.Generator().manual_seed(2))
    head.bias = torch.zeros(CLASSES)
    net.head = head
    header = Header(
        family="autoencoder",
        config={},
        preparation=[scale_step(255.0)],
        outputs=("classes",),
        channels=1,
        stride=(1, net.stride, net.stride),
        halo=(0, net.radius, net.radius),
        tile_exact=net.tile_exact,
        classes=tuple(ClassSpec(id=i, name=f"class {i}", value=i) for i in range(1, CLASSES + 1)),
    )
    return Model("benchmark", header, net)


def predict_ours(model: Model, source: ImageSource, writer: ImageWriter, precision: str, work: Path) -> None:
    """Fieldmark's way: tile by tile from the file to the file."""
    from fieldmark.infer.predict import predict_image
    from fieldmark.recipes import PredictRecipe

    recipe = PredictRecipe.model_validate({"precision": precision})
    options: dict[str, Any] = {"image": "image", "labels": writer, "probabilities": None, "made_from": "benchmark"}
    for _ in predict_image(model, source, recipe, done=work / "done.log", **options):
        pass


def predict_peer(model: Model, source: ImageSource, writer: ImageWriter, precision: str) -> None:
    """The sliding window's way: the whole image as a tensor, the whole answer as a tensor."""
    import torch
    from monai.inferers import sliding_window_inference

    from fieldmark.prepare import apply

    whole = Box.whole(source.shape)
    pixels = apply(source.read(whole)[0, :, 0], model.header.preparation)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        answers = sliding_window_inference(
            torch.from_numpy(pixels)[None], (WINDOW, WINDOW), sw_batch_size=1, predictor=model.net.probabilities
        )
    classes = answers.argmax(dim=1).to(torch.uint8) + 1
    writer.write(whole, classes.numpy()[None, :, None])


def one_case(who: str, size: int, precision: str, folder: Path) -> dict[str, float]:
    """Seconds from the file on disk to the answers on disk, after a warm-up on one window."""
    import psutil
    import torch

    from fieldmark.images import open_image

    model = make_model()
    if who == "peer":
        import monai.inferers  # noqa: F401 - its import is not part of the time
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        model.net.probabilities(torch.zeros(1, 1, WINDOW, WINDOW))
    before = psutil.Process().memory_full_info()
    target = _answers(folder, who, size, precision)
    start = time.perf_counter()
    with open_image(_image(folder, size)) as source:
        writer = _writer(target, size)
        if who == "ours":
            predict_ours(model, source, writer, precision, target.with_suffix(".work"))
        else:
            predict_peer(model, source, writer, precision)
        writer.finish()
    taken = time.perf_counter() - start
    return {"seconds": taken, "before_mib": getattr(before, "pss", before.rss) / 2**20}


def main(arguments: Sequence[str]) -> int:
    """Measure one case, or draw the image that all cases share."""
    who, size, precision, folder = arguments[0], int(arguments[1]), arguments[2], Path(arguments[3])
    if who == "image":
        make_image(_image(folder, size), size)
        print("{}")
    else:
        print(json.dumps(one_case(who, size, precision, folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
