"""The phase for weights in closed form: each step sets some weights once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from fieldmark.core.events import Event

if TYPE_CHECKING:
    import numpy as np

    from fieldmark.learn.engine import Engine
    from fieldmark.learn.state import FitState
    from fieldmark.models.base import Net

Solver = Callable[["Net"], dict[str, float]]
"""Sets some of a network's weights and says in numbers how it went."""


BETWEEN_SAVES = 0.5
"""Seconds. What takes less is sooner solved again than saved: a state has four syncs of the disk."""


class Estimate:
    """FLIM layers, k-means, linear heads: solved one after the other.

    A crash costs the last step, or the last half second of steps; the first is saved at once, so that a fit that goes
    on is known to be the same one.
    """

    def __init__(self, name: str, solvers: Sequence[Solver]) -> None:
        self.name = name
        self.solvers = solvers
        self.total = len(solvers)
        self.descends = False

    def run(self, engine: Engine, net: Net, state: FitState) -> Iterator[Event]:
        saved = -math.inf
        for step in range(state.progress.get(self.name, 0), self.total):
            net.cpu().eval()  # closed forms are solved where the features are read
            event = Event(self.name, step + 1, self.total, self.solvers[step](net))
            state.progress[self.name] = event.step
            state.remember(event)
            due = event.step == self.total or time.monotonic() - saved > BETWEEN_SAVES
            if due and engine.is_global_zero:
                state.save(net)
                saved = time.monotonic()
            yield event

    def tensors(self) -> dict[str, np.ndarray]:
        return {}
