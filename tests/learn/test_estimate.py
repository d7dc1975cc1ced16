"""The phase of closed forms: what is on disk after its steps, by a clock that the test turns."""

import pytest
import torch
from torch import nn

from fieldmark.learn.engine import SoleProcess
from fieldmark.learn.estimate import Estimate
from fieldmark.learn.state import FitState


class Tiny(nn.Module):
    """One weight; the net of a fit has heads."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.head = self.refiner = self.image_head = None


@pytest.mark.parametrize(
    ("seconds", "on_disk"), [(10.0, [1, 2, 3, 4, 5]), (0.3, [1, 1, 3, 3, 5]), (0.001, [1, 1, 1, 1, 5])]
)
def test_the_first_and_last_step_are_saved_and_others_by_the_clock(tmp_path, monkeypatch, seconds, on_disk):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def solve(net):
        now[0] += seconds
        return {}

    net, state = Tiny(), FitState(tmp_path, "here")
    found = []
    for _ in Estimate("solved", [solve] * 5).run(SoleProcess(), net, state):
        again = FitState(tmp_path, "here")
        again.restore(Tiny())
        found.append(again.progress.get("solved", 0))
    assert found == on_disk
