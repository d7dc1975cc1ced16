"""Names of files that hold one plane each of an image that has several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

TOGETHER = (1, 3, 4)
"""Numbers of channels that go into one PNG."""


@dataclass(frozen=True, slots=True)
class PlaneFile:
    """A file with channels `first` to `last` of one time and slice."""

    path: Path
    t: int
    z: int
    first: int
    last: int


def plane_files(path: Path, shape: Sequence[int], numbers: Sequence[Sequence[int]] = ((), ())) -> list[PlaneFile]:
    """The PNG files of an image, in the order t, z, c: `cells_t000_z003.png` and so on for `cells.png`.

    Names tell times, slices and channels (`_c000`) where there are several, with digits enough to sort by; an image of
    one plane keeps its name. `fieldmark frames` reads such names again.

    Args:
        path: The name of the whole.
        shape: (t, c, z, y, x).
        numbers: Of the times and of the slices, as they are named; empty for 0, 1, 2, ...
    """
    t, c, z = shape[:3]
    counts = {"t": t, "z": z, "c": 1 if c in TOGETHER else c}
    named = [letter for letter, count in counts.items() if count > 1]
    called = {"t": numbers[0] or range(t), "z": numbers[1] or range(z), "c": range(counts["c"])}
    digits = {letter: max(3, len(str(max(own, default=0)))) for letter, own in called.items()}
    found = []
    for places in product(*map(range, counts.values())):
        at = dict(zip(counts, places, strict=True))
        word = "".join(f"_{letter}{called[letter][at[letter]]:0{digits[letter]}}" for letter in named)
        first, last = (0, c) if counts["c"] == 1 else (at["c"], at["c"] + 1)
        found.append(PlaneFile(path.with_name(f"{path.stem}{word}{path.suffix}"), at["t"], at["z"], first, last))
    return found
