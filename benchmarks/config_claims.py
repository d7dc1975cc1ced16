"""Other systems' configs on real images, from the command line to a score.

    python -m benchmarks.config_claims openfibsem|microdl [--lines FILE] [--set KEY=VALUE ...]

`openfibsem`: OpenFIBSEM's documented `config.yaml` with its paths replaced, on 30 fluorescence images of nuclei of
256 px; ten others are predicted. Then the same with EfficientNet-Lite0 and its ImageNet weights. `microdl`: a training
YAML in microDL's words, phase contrast to DAPI, on each of 7 slices; a strip of the field that is held out is
predicted. Reads the folder FIELDMARK_DATA. A case whose line is in FILE is not computed again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.microscopy_data import DATA, pixels
from benchmarks.quality import complete, dice
from fieldmark.core.seeds import derive_seed
from fieldmark.evaluate.images import score_values

OPENFIBSEM = """\
train:
  data_dir: {data}                                  # Directory of training data
  save_dir: {save}                                  # Directory to save models
  checkpoint: null                                  # Checkpoint to start training from
  encoder: "resnet34"                               # Specify model architecture. List of available encoders in readme.
  epochs: 20                                        # Number of epochs to train for
  cuda: true                                        # Enable/Disable CUDA training
  batch_size: 4                                     # Number of samples per batch
  num_classes: 3                                    # Number of classes in segmentation labels. Includes background as class 0.
  learning_rate: 0.0001                             # Training Learning Rate
  wandb: true                                       # Logs information and plots to wandb
  wandb_project: "fibsem_pipeline"                  # [Optional] wandb project
  wandb_entity: "demarcolab"                        # [Optional] wandb entity
"""  # noqa: E501 - as it is documented
"""`/sources/openfibsem.md`, with the two paths replaced."""
MICRODL = """\
dataset:
  data_dir: {data}
  model_task: regression
  height: 128
  width: 128
  input_channels: [0]
  target_channels: [1]
  split_by_column: pos_idx
  split_ratio: {{train: 0.7, val: 0.3, test: 0.0}}
  random_seed: 0
network:
  class: UNet2D
  activation: {{type: relu}}
  batch_norm: True
  block_sequence: conv-bn-activation
  filter_size: 3
  final_activation: linear
  num_convs_per_block: 2
  num_filters_per_block: [16, 32, 64, 128]
  pooling_type: max
  residual: True
  skip_merge_type: concat
  upsampling: bilinear
trainer:
  batch_size: 8
  callbacks:
    EarlyStopping: {{monitor: val_loss, patience: 10}}
    ModelCheckpoint: {{monitor: val_loss, save_best_only: True}}
  loss: mae_loss
  max_epochs: 8
  metrics: pearson_corr
  model_dir: {save}
  optimizer: {{lr: 0.001, name: Adam}}
"""
PRETRAINED = ("--set", "net.encoder=efficientnet-lite0", "--set", "net.weights=imagenet")
TEACH, TEST = 30, 10
SIDE = 256
ROWS = 240
"""Of a position; the last one tests, and lies 64 rows from the others."""


def nuclei(folder: Path, config: str, options: Sequence[str]) -> dict[str, float]:
    """Mean Dice of the images that test, by `fieldmark fit --config` and `fieldmark predict`."""
    import tifffile

    names = sorted(path.stem for path in (DATA / "nuclei" / "images").glob("*.png"))
    names = [name for name in names if pixels(DATA / "nuclei/images" / f"{name}.png").shape == (1, SIDE, SIDE)]
    rng = np.random.default_rng(derive_seed(0, "config"))
    names = [names[place] for place in rng.permutation(len(names))][: TEACH + TEST]
    for number, name in enumerate(names):
        part = folder / "data" if number < TEACH else folder / "others"
        for kind in ("images", "labels"):
            (part / kind).mkdir(parents=True, exist_ok=True)
            values = pixels(DATA / "nuclei" / kind / f"{name}.png")[0]
            tifffile.imwrite(part / kind / f"{name}.tif", (values > 0).astype(np.uint8) if kind == "labels" else values)
    model, took = _learned(folder, config, options)
    found = _predicted(folder, model, folder / "others/images")
    scores = [dice(pixels(path)[0] == 1, pixels(folder / "others/labels" / path.name)[0] == 1) for path in found]
    return {"dice": float(np.mean(scores)), "least": float(np.min(scores)), "tested": float(len(scores)), **took}


def stain(folder: Path, config: str, options: Sequence[str]) -> dict[str, float]:
    """Pearson's correlation and SSIM of the strip that tests."""
    import tifffile

    phase = tifffile.imread(DATA / "stain" / "phase_contrast_z7.ome.tif")
    right = tifffile.imread(DATA / "stain" / "target_DAPI.tif")
    for position in range(3):
        rows = slice(position * ROWS, (position + 1) * ROWS)
        (folder / "data").mkdir(exist_ok=True)
        for z, plane in enumerate(phase):
            for channel, values in enumerate((plane, right)):
                name = f"im_c{channel:03d}_z{z:03d}_t000_p{position:03d}.tif"
                tifffile.imwrite(folder / "data" / name, values[rows])
    (folder / "others").mkdir()
    tifffile.imwrite(folder / "others/strip.ome.tif", phase[:, -ROWS:], metadata={"axes": "ZYX"}, ome=True)
    model, took = _learned(folder, config, options)
    (found,) = _predicted(folder, model, folder / "others")
    said = pixels(found)[len(phase) // 2]
    scores = score_values(said, right[-ROWS:], metrics=("corr", "ssim"))
    return {key: value for key, value in scores.items() if value is not None} | took


def _learned(folder: Path, config: str, options: Sequence[str]) -> tuple[str, dict[str, float]]:
    """Run `fieldmark fit --config`; the model's folder, and seconds on the clock and of the processor."""
    (folder / "config.yaml").write_text(config.format(data=folder / "data", save=folder / "models"))
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    said = _command("fit", "--config", folder / "config.yaml", *options, "--json")
    taken, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return str(json.loads(said)["folder"]), {"seconds": taken, "cpu_seconds": cpu}


def _predicted(folder: Path, model: str, images: Path) -> list[Path]:
    _command("predict", model, images, "--out", folder / "out", "--format", "tiff")
    return sorted(path for path in (folder / "out").iterdir() if path.suffix == ".tif")


def _command(*arguments: object) -> str:
    """What a command says on its standard output."""
    line = [sys.executable, "-m", "fieldmark.faces.cli", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(line[2:])} failed: {done.stderr[-2000:]}")
    return done.stdout


CLAIMS: dict[str, list[tuple[str, Callable[[Path, str, Sequence[str]], dict[str, float]], str, Sequence[str]]]] = {
    "openfibsem": [
        ("openfibsem, as it is", nuclei, OPENFIBSEM, ()),
        ("openfibsem, EfficientNet-Lite0 with ImageNet weights", nuclei, OPENFIBSEM, PRETRAINED),
    ],
    "microdl": [("microdl, phase contrast to DAPI", stain, MICRODL, ())],
}


def cases(claim: str, options: Sequence[str]) -> Iterator[tuple[str, Callable[[], dict[str, float]]]]:
    """Name of each case, and what computes its line."""
    more = [word for option in options for word in ("--set", option)]
    for name, measure, config, own in CLAIMS[claim]:
        yield " ".join([name, *options]), partial(_alone, measure, config, [*own, *more])


def _alone(
    measure: Callable[[Path, str, Sequence[str]], dict[str, float]], config: str, options: Sequence[str]
) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        return measure(Path(name), config, options)


def main() -> None:
    """Compute what is missing, print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claim", choices=CLAIMS)
    parser.add_argument("--lines", type=Path, default=Path(os.devnull))
    parser.add_argument("--set", dest="options", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    for line in complete(options.lines, cases(options.claim, options.options)):
        print(line["case"], {key: round(value, 4) for key, value in line["scores"].items()})


if __name__ == "__main__":
    main()
