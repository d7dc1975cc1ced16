"""How long a person waits until a stroke is safe on the disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.rows import Row, interleaved
from fieldmark.collection import Collection, ImageRecord
from fieldmark.labels import Labels, Polyline
from fieldmark.store import Store, open_store

CLAIM = "A stroke over up to 16 label tiles is durable within the sync of the disk and 10 ms (p99), whatever the image."
PEER = "4 KiB appended to a file in the same folder and synced, in turns: the least that durable can cost."
STROKES = 300
SIDES = (2_048, 100_000)
TILE = 256


def measure() -> list[Row]:
    """Time of a stroke in a small and in a huge image, and of the bare sync."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        with open_store(folder / "bench.db", create=True) as store:
            actions: dict[str, Callable[[], object]] = {f"{side} px": _drawing(store, side) for side in SIDES}
            actions["sync"] = _syncing(folder / "bare")
            taken = interleaved(actions, STROKES)
    sync = taken.pop("sync")
    return [_row(case, values, sync, share) for case, values in taken.items() for share in (0.5, 0.99)]


def _row(case: str, values: list[float], sync: list[float], share: float) -> Row:
    ours, peer = (float(np.quantile(times, share)) * 1e3 for times in (values, sync))
    above = f"{ours - peer:+.2f} ms against the sync, n={len(values)}"
    return Row(f"stroke in an image of {case}: p{share * 100:.0f}", ours, peer, "ms", spread=above)


def _drawing(store: Store, side: int) -> Callable[[], object]:
    """Draws one more stroke at each call: a slanted line over at most 4 x 4 tiles."""
    labels = Labels(store)
    record = ImageRecord(f"/bench/{side}.tif", f"{side}.tif", str(side), (1, 1, 1, side, side), "uint8", "yx")
    (image,) = Collection(store).add([record], author="bench")
    klass = labels.add_class(f"class of {side}").id
    rng = np.random.default_rng(side)

    def draw() -> object:
        start = rng.uniform(0, side - 3 * TILE, 2)
        points = start + np.cumsum(np.vstack([np.zeros(2), rng.uniform(0, 2.4 * TILE / 60, (60, 2))]), axis=0)
        return labels.draw(image, klass, Polyline(points, radius=6.0), "bench")

    return draw


def _syncing(path: Path) -> Callable[[], object]:
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    page = bytes(4096)

    def sync() -> None:
        os.write(handle, page)
        os.fsync(handle)

    return sync
