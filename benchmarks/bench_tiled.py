"""Predict an image of any size on disk, beside a sliding window with the same net.

    python -m benchmarks.bench_tiled ours|peer CASE fp32|bf16 FOLDER

measures one case in this process and prints it as JSON; `measure` runs each case in a
process of its own and watches its memory.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.drawn import fitted, noisy, objects
from benchmarks.machine import bf16_units
from benchmarks.processes import Outcome, run_module
from benchmarks.rows import Row
from fieldmark.core.geometry import Box

if TYPE_CHECKING:
    from fieldmark.images import ImageSource
    from fieldmark.images.writers import ImageWriter
    from fieldmark.infer.predict import Model

CLAIM = (
    "Tiled prediction is at least 1.5 times as fast in fp32 and, of planes, 2.5 times in bf16 with both in bf16; its "
    "memory stays flat; bf16 gives the same class in at least 0.995 of the pixels."
)
PEER = (
    "MONAI's `sliding_window_inference` (windows of 512 px, or of 32 x 128 x 128; its default overlap of 0.25), same "
    "trained net, precision and files."
)
CASES = ("2048", "4096", "8192", "volume")
VOLUME = (32, 1024, 1024)
PRECISIONS = ("fp32", "bf16")
WINDOW = 512
WINDOWS = {2: (WINDOW, WINDOW), 3: (32, 128, 128)}
HERE = "benchmarks.bench_tiled"
NETS: dict[int, dict[str, Any]] = {2: {}, 3: {"dims": "3", "filters": [8, 16, 32]}}
LESSONS: dict[int, dict[str, Any]] = {
    2: {"epochs": 1, "crops_per_epoch": 320, "crop": (128, 128)},
    3: {"epochs": 1, "crops_per_epoch": 96, "crop": (64, 64), "depth": 16, "batch_size": 2},
}
"""Enough to find discs and balls: a net whose answers are sure."""


def measure(cases: Sequence[str] = CASES) -> list[Row]:
    """Speed and memory of both, and how far their answers agree."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for case in cases:
            run_module(HERE, "image", case, "-", name)
            run_module(HERE, "model", case, "-", name)
            usual: Outcome | None = None
            for precision in _precisions(case, cases):
                ours, peer = (run_module(HERE, who, case, precision, name) for who in ("ours", "peer"))
                usual = usual or peer
                rows += _rows(case, precision, ours, peer, usual, Path(name))
    return rows


def shape_of(case: str) -> tuple[int, int, int]:
    """Pixels along z, y, x: of the volume, or of an image of this side."""
    return VOLUME if case == "volume" else (1, int(case), int(case))


def _spatial(case: str) -> int:
    return 3 if shape_of(case)[0] > 1 else 2


def _precisions(case: str, cases: Sequence[str]) -> Sequence[str]:
    """Without bfloat16 units that precision is many times slower: then it is shown once, at the smallest size."""
    return PRECISIONS if bf16_units() or case == cases[0] else PRECISIONS[:1]


def _rows(case: str, precision: str, ours: Outcome, peer: Outcome, usual: Outcome, folder: Path) -> list[Row]:
    """`usual` is the peer in fp32."""
    size = prod(shape_of(case)) / 1e6
    ours_speed, peer_speed = (size / outcome.answer["seconds"] for outcome in (ours, peer))
    extra = [outcome.peak_mib - outcome.answer["before_mib"] for outcome in (ours, peer)]
    cpu = [outcome.answer["cpu_seconds"] for outcome in (ours, peer)]
    told = f"same class in {_agreement(folder, case, ('ours', precision), ('peer', precision)):.4%} of the pixels; "
    if precision != PRECISIONS[0]:
        told += f"{_agreement(folder, case, ('ours', precision), ('ours', PRECISIONS[0])):.4%} as ours in fp32; "
        told += f"{usual.answer['seconds'] / ours.answer['seconds']:.2f} times as fast as the peer in fp32; "
    told += f"{cpu[0]:.0f} and {cpu[1]:.0f} CPU s"
    above = f"above the imports: {extra[0]:.0f} and {extra[1]:.0f} MiB"
    name = "x".join(map(str, VOLUME)) if case == "volume" else f"{case} px"
    return [
        Row(f"{name}, {precision}: speed", ours_speed, peer_speed, "Mpx/s", more_is_better=True, spread=told),
        Row(f"{name}, {precision}: peak memory", ours.peak_mib, peer.peak_mib, "MiB", spread=above),
    ]


def _agreement(folder: Path, case: str, one: tuple[str, str], other: tuple[str, str]) -> float:
    """The share of pixels with the same class, band by band; each is who answered, and in which precision."""
    from fieldmark.images import open_image

    same, (depth, height, width) = 0, shape_of(case)
    with open_image(_answers(folder, *one, case)) as first, open_image(_answers(folder, *other, case)) as second:
        for top in range(0, height, WINDOW):
            band = Box((0, 0, 0, top, 0), (1, 1, depth, min(height, top + WINDOW), width))
            same += int((first.read(band) == second.read(band)).sum())
    return same / (depth * height * width)


def _image(folder: Path, case: str) -> Path:
    return folder / f"image-{case}.ome.zarr"


def _answers(folder: Path, who: str, precision: str, case: str) -> Path:
    return folder / f"{who}-{case}-{precision}.ome.zarr"


def make_image(folder: Path, case: str) -> None:
    """Draw bright discs (balls) on noise, one band at a time, into an OME-Zarr of uint8."""
    depth, height, width = shape_of(case)
    rng = np.random.default_rng(height)
    writer = _writer(_image(folder, case), case)
    for top in range(0, height, WINDOW):
        bottom = min(height, top + WINDOW)
        band = noisy(objects((depth, bottom - top, width), top), rng)
        writer.write(Box((0, 0, 0, top, 0), (1, 1, depth, bottom, width)), band[None, None])
    writer.finish()


def _writer(path: Path, case: str) -> ImageWriter:
    from fieldmark.core.axes import PixelSize
    from fieldmark.images.writers import create_writer

    options: dict[str, Any] = {"dtype": np.dtype(np.uint8), "pixel_size": PixelSize(), "chunk": WINDOW}
    return create_writer(path, "ome-zarr", shape=(1, 1, *shape_of(case)), **options)


def make_model(folder: Path, case: str) -> None:
    """Teach a U-Net to find what is drawn; once for all images."""
    spatial = _spatial(case)
    place = folder / f"net-{spatial}"
    if (place / "fit" / "model").exists():
        return
    place.mkdir()
    found = objects((16 if spatial == 3 else 1, 512, 512))
    mask = found if spatial == 3 else found[0]
    image = noisy(mask, np.random.default_rng(0))
    for _ in fitted(place, [image], [mask], {"net": NETS[spatial], "train": LESSONS[spatial]}):
        pass


def load_model(folder: Path, case: str) -> Model:
    """The U-Net of `make_model`."""
    from fieldmark.infer.predict import Model
    from fieldmark.models.build import load_net

    return Model("benchmark", *load_net(folder / f"net-{_spatial(case)}" / "fit" / "model"))


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

    whole, spatial = Box.whole(source.shape), model.net.spatial
    raw = source.read(whole)[0]
    pixels = torch.from_numpy(apply(raw if spatial == 3 else raw[:, 0], model.header.preparation))[None]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        answers = sliding_window_inference(
            pixels, WINDOWS[spatial], sw_batch_size=1, predictor=model.net.eval().probabilities
        )
    classes = answers[0].argmax(dim=0).to(torch.uint8).numpy()
    writer.write(whole, classes.reshape(source.shape))


def one_case(who: str, case: str, precision: str, folder: Path) -> dict[str, float]:
    """Seconds from the file on disk to the answers on disk, after a warm-up on one window."""
    import psutil
    import torch

    from fieldmark.images import open_image

    model = load_model(folder, case)
    if who == "peer":
        import monai.inferers  # noqa: F401 - its import is not part of the time
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        model.net.eval().probabilities(torch.zeros(1, 1, *WINDOWS[model.net.spatial]))
    before = psutil.Process().memory_full_info()
    target = _answers(folder, who, precision, case)
    start, cpu = time.perf_counter(), time.process_time()
    with open_image(_image(folder, case)) as source:
        writer = _writer(target, case)
        if who == "ours":
            predict_ours(model, source, writer, precision, target.with_suffix(".work"))
        else:
            predict_peer(model, source, writer, precision)
        writer.finish()
    taken = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    return taken | {"before_mib": getattr(before, "pss", before.rss) / 2**20}


def main(arguments: Sequence[str]) -> int:
    """Measure one case, or make the image or the net that all of them share."""
    who, case, precision, folder = arguments[0], arguments[1], arguments[2], Path(arguments[3])
    if who == "image":
        make_image(folder, case)
        print("{}")
    elif who == "model":
        make_model(folder, case)
        print("{}")
    else:
        print(json.dumps(one_case(who, case, precision, folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
