"""One measured pair: ours and the peer's, and how many times better ours is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the results.

    Args:
        case: What was done, such as `4096 px, fp32: megapixels/s`.
        ours: Our number.
        peer: The peer's number from the same run; None where there is no peer.
        unit: Of both numbers.
        more_is_better: False for seconds and bytes, True for speeds and scores.
        spread: Spread over repeats, seeds or images, in words.
    """

    case: str
    ours: float
    peer: float | None
    unit: str
    more_is_better: bool = False
    spread: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better ours is than the peer's; None without a peer."""
        if self.peer is None or not self.ours or not self.peer:
            return None
        return self.ours / self.peer if self.more_is_better else self.peer / self.ours

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def interleaved(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each action, taken in turns, so that a busy moment of the machine meets all of them."""
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        for name, action in actions.items():
            taken[name].append(seconds(action))
    return taken


def spread(values: list[float], unit: str = "s") -> str:
    """Median and range, in words."""
    return f"median {median(values):.3g} {unit}, {min(values):.3g} to {max(values):.3g}, n={len(values)}"
