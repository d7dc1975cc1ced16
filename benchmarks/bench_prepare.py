"""Prepare frames of a microscope, beside the same steps by scipy and scikit-image called plainly.

    python -m benchmarks.bench_prepare draw|ours|peer|compare FOLDER [FRAMES] [SIDE]

does one of these in this process and prints it as JSON; `measure` runs each in a process of its own and watches its
memory. Both read the same 16-bit TIFFs and write the same: a flat field, a mask for each frame, median and quartiles of
the foreground, and the list of tiles that show enough of it.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import Outcome, run_module
from benchmarks.rows import Row

CLAIM = "Frames are prepared at least 3 times as fast, and memory follows a frame, not the set."
PEER = (
    "NumPy, scipy.ndimage and scikit-image called plainly, the stack in memory: `gaussian_filter`, "
    "`rescale_intensity`, `threshold_otsu`, `morphology.opening` with a disk, `lstsq` through block medians, "
    "`block_reduce`, `percentile`."
)
FRAMES, SIDE = 50, 2048
TILE, STEP, SHARE, RADIUS, BLOCK = 256, 128, 0.25, 5, 32
GRAIN = 16
"""Side of the blocks of which enough must be foreground for their pixels to be measured."""
HERE = "benchmarks.bench_prepare"
FIELD = "flat_field_images/flat-field_channel-0.npy"


def measure(frames: int = FRAMES, side: int = SIDE) -> list[Row]:
    """Speed and memory of both, of all frames and of a fifth of them, and how far what they found agrees."""
    rows: list[Row] = []
    for count in sorted({max(2, frames // 5), frames}):
        with tempfile.TemporaryDirectory() as name:
            run_module(HERE, "draw", name, str(count), str(side))
            ours, peer = (run_module(HERE, who, name) for who in ("ours", "peer"))
            agreed = run_module(HERE, "compare", name).answer["told"]
            rows += _rows(f"{count} frames of {side} x {side}", count * side * side * 2, ours, peer, agreed)
    return rows


def _rows(case: str, size: int, ours: Outcome, peer: Outcome, agreed: str) -> list[Row]:
    speeds = [size / 1e6 / outcome.answer["seconds"] for outcome in (ours, peer)]
    cpu = [outcome.answer["cpu"] for outcome in (ours, peer)]
    above = [outcome.peak_mib - outcome.answer["before_mib"] for outcome in (ours, peer)]
    return [
        Row(
            f"{case}: speed",
            speeds[0],
            speeds[1],
            "MB/s",
            more_is_better=True,
            spread=f"processor {cpu[0]:.1f} and {cpu[1]:.1f} s; {agreed}",
        ),
        Row(
            f"{case}: peak memory",
            ours.peak_mib,
            peer.peak_mib,
            "MiB",
            spread=f"above the imports: {above[0]:.0f} and {above[1]:.0f} MiB",
        ),
    ]


def draw(folder: Path, frames: int, side: int) -> None:
    """Discs in uneven light with noise of the camera, one position a frame."""
    import tifffile

    (folder / "in").mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:side, :side].astype(np.float32) / side
    light = 1.2 - 0.8 * (y - 0.45) ** 2 - 0.6 * (x - 0.55) ** 2
    for number in range(frames):
        rng = np.random.default_rng(number)
        shown = np.zeros((side, side), np.float32)
        for _ in range(max(4, side * side // 4_000)):
            radius = int(rng.integers(10, 26))
            cy, cx = rng.integers(radius, side - radius, 2)
            box = slice(cy - radius, cy + radius), slice(cx - radius, cx + radius)
            dy, dx = np.mgrid[-radius:radius, -radius:radius]
            shown[box] = np.maximum(shown[box], dy**2 + dx**2 < radius**2)
        pixels = light * (400 + 2500 * shown) + rng.standard_normal((side, side), np.float32) * 40
        tifffile.imwrite(folder / f"in/im_c000_z000_t000_p{number:03d}.tif", pixels.clip(0).astype(np.uint16))


def prepare_ours(folder: Path) -> None:
    """As a user would, from a file of microDL."""
    from fieldmark.workbench.loose.prepare import follow_prepare, plan_prepare

    config = {
        "input_dir": "in",
        "output_dir": "ours",
        "flat_field": {"estimate": True, "correct": True, "block_size": BLOCK},
        "normalize": {"normalize_im": "dataset", "min_fraction": 0.5},
        "masks": {"channels": [0], "mask_type": "otsu", "str_elem_radius": RADIUS},
        "tile": {"tile_size": [TILE, TILE], "step_size": [STEP, STEP], "min_fraction": SHARE},
    }
    file = folder / "prepare.json"
    file.write_text(json.dumps(config))
    for _ in follow_prepare(plan_prepare(file)):
        pass


def prepare_plainly(folder: Path) -> None:
    """The same by libraries, step by step over the whole stack."""
    from skimage.io import imread, imsave

    out = folder / "peer"
    (out / "masks").mkdir(parents=True)
    files = sorted((folder / "in").glob("*.tif"))
    stack = np.stack([imread(file) for file in files])
    field = _field(stack.mean(axis=0))
    np.save(out / "flat-field_channel-0.npy", field.astype(np.float32))
    corrected = (stack / field).astype(np.float32)
    masks = np.stack([_mask(plane) for plane in corrected])
    for file, mask in zip(files, masks, strict=True):
        imsave(out / "masks" / f"{file.stem}.png", mask.astype(np.uint8) * 255, check_contrast=False)
    low, middle, high = np.percentile(corrected[_measured(masks)], (25, 50, 75))
    (out / "statistics.json").write_text(json.dumps({"median": float(middle), "iqr": float(high - low)}))
    (out / "tiles.json").write_text(json.dumps([tile for p, mask in enumerate(masks) for tile in _tiles(p, mask)]))


def _field(mean: np.ndarray) -> np.ndarray:
    """A polynomial of order 2 through block medians, over its mean."""
    from skimage.measure import block_reduce

    medians = block_reduce(mean, (BLOCK, BLOCK), np.median)
    v, u = (np.linspace(-1, 1, n, endpoint=False) + 1 / n for n in medians.shape)
    down, across = np.meshgrid(v, u, indexing="ij")
    terms = np.polynomial.polynomial.polyvander2d(down, across, [2, 2]).reshape(-1, 9)
    table = np.linalg.lstsq(terms, medians.ravel(), rcond=None)[0].reshape(3, 3)
    y, x = (np.linspace(-1, 1, n, endpoint=False) + 1 / n for n in mean.shape)
    found = np.polynomial.polynomial.polygrid2d(y, x, table)
    field: np.ndarray = found / found.mean()
    return field


def _mask(plane: np.ndarray) -> np.ndarray:
    """MicroDL's Otsu mask: smoothed, stretched twice, 1.1 times the threshold, opened."""
    from scipy.ndimage import gaussian_filter
    from skimage.exposure import rescale_intensity
    from skimage.filters import threshold_otsu
    from skimage.morphology import disk, opening

    smooth = gaussian_filter(plane, 0.8, radius=1)
    for _ in range(2):
        low, high = np.percentile(smooth, (1, 99))
        smooth = rescale_intensity(smooth, in_range=(low, high), out_range=(0, 255))
    found: np.ndarray = opening(smooth > 1.1 * threshold_otsu(smooth, nbins=128), disk(RADIUS)).astype(bool)
    return found


def _measured(masks: np.ndarray) -> np.ndarray:
    """Pixels of blocks of which half is foreground."""
    from skimage.measure import block_reduce

    share = block_reduce(masks, (1, GRAIN, GRAIN), np.mean)
    grown: np.ndarray = (share >= 0.5).repeat(GRAIN, 1).repeat(GRAIN, 2)[:, : masks.shape[1], : masks.shape[2]]
    return grown


def _tiles(position: int, mask: np.ndarray) -> list[tuple[int, int, int]]:
    rows, columns = ([*range(0, n - TILE, STEP), n - TILE] for n in mask.shape)
    return [
        (position, row, column)
        for row in rows
        for column in columns
        if mask[row : row + TILE, column : column + TILE].mean() >= SHARE
    ]


def compare(folder: Path) -> str:
    """How far both agree: pixels of masks, tiles, the field, the statistics."""
    from skimage.io import imread

    theirs = sorted((folder / "peer/masks").glob("*.png"))
    mine = sorted((folder / "ours/mask_channels_0").glob("*.png"))
    same = np.mean([(imread(a) == imread(b)).mean() for a, b in zip(mine, theirs, strict=True)])
    mine_field, their_field = (
        np.load(path, allow_pickle=False)
        for path in (folder / "ours" / FIELD, folder / "peer/flat-field_channel-0.npy")
    )
    field = np.abs(mine_field / their_field - 1).max()
    with open(folder / "ours/tiles.csv", newline="") as file:
        own = {(int(row["pos_idx"]), int(row["row_start"]), int(row["col_start"])) for row in csv.DictReader(file)}
    other = {tuple(tile) for tile in json.loads((folder / "peer/tiles.json").read_text())}
    with open(folder / "ours/statistics.csv", newline="") as file:
        median = float(next(csv.DictReader(file))["zscore_median"])
    center = json.loads((folder / "peer/statistics.json").read_text())["median"]
    return (
        f"masks agree in {same:.4%} of the pixels, fields to {field:.1e}, {len(own & other)} of {len(own | other)} "
        f"tiles are the same, medians {median:.1f} and {center:.1f}"
    )


def one_case(who: str, folder: Path) -> dict[str, float]:
    """Seconds from files to files, after the imports."""
    import psutil
    import skimage.exposure
    import skimage.filters
    import skimage.io
    import skimage.measure
    import skimage.morphology  # noqa: F401 - their imports are not part of the time

    import fieldmark.workbench.loose.prepare  # noqa: F401

    before = psutil.Process().memory_full_info()
    start, cpu = time.perf_counter(), time.process_time()
    (prepare_ours if who == "ours" else prepare_plainly)(folder)
    taken: dict[str, Any] = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    return taken | {"before_mib": getattr(before, "pss", before.rss) / 2**20}


def main(arguments: Sequence[str]) -> int:
    """Do one part, and say what came of it."""
    what, folder = arguments[0], Path(arguments[1])
    match what:
        case "draw":
            draw(folder, int(arguments[2]), int(arguments[3]))
            print("{}")
        case "compare":
            print(json.dumps({"told": compare(folder)}))
        case _:
            print(json.dumps(one_case(what, folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
