"""Objects of a wrong size go, by brute-force flood fill, also over the borders of strips."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.infer import components
from fieldmark.infer.components import SizeRule, filter_components

NOBODY = np.zeros((0, 4), np.int64)


class Memory:
    """A label map in memory, as a source and as a writer."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values
        self.shape = values.shape

    def read(self, box, level=0):
        return self.values[box.slices]

    def write(self, box, values):
        self.values[box.slices] = values


def filtered(plane: np.ndarray, rule: SizeRule, held: np.ndarray = NOBODY) -> np.ndarray:
    target = Memory(np.full((1, 1, 1, *plane.shape), 99, plane.dtype))
    filter_components(Memory(plane[None, None, None]), target, rule, held)
    return target.values[0, 0, 0]


def flooded(plane: np.ndarray, rule: SizeRule, held: set[tuple[int, int]]) -> np.ndarray:
    result, visited = plane.copy(), np.zeros(plane.shape, bool)
    for start in np.ndindex(*plane.shape):
        if visited[start] or plane[start] == rule.background:
            continue
        stack, found = [start], []
        visited[start] = True
        while stack:
            y, x = stack.pop()
            found.append((y, x))
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    near = (y + dy, x + dx)
                    inside = 0 <= near[0] < plane.shape[0] and 0 <= near[1] < plane.shape[1]
                    if inside and not visited[near] and plane[near] == plane[start]:
                        visited[near] = True
                        stack.append(near)
        small, large = len(found) < rule.least, rule.most is not None and len(found) > rule.most
        if (small or large) and not held.intersection(found):
            for at in found:
                result[at] = rule.background
    return result


@given(
    seed=st.integers(0, 10_000),
    strip=st.integers(1, 9),
    least=st.integers(0, 8),
    more=st.none() | st.integers(0, 12),
    background=st.integers(1, 3),
)
@settings(max_examples=80, deadline=None)
def test_it_is_flood_fill(seed, strip, least, more, background):
    rng = np.random.default_rng(seed)
    plane = rng.choice([1, 2, 3], size=rng.integers(1, 14, 2), p=[0.5, 0.3, 0.2]).astype(np.uint8)
    at = (int(rng.integers(plane.shape[0])), int(rng.integers(plane.shape[1])))
    rule = SizeRule(background, least, None if more is None else least + more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(components, "STRIP", strip)
        found = filtered(plane, rule, np.array([[0, 0, *at]]))
    assert np.array_equal(found, flooded(plane, rule, {at}))


def test_planes_are_apart():
    stack = np.ones((2, 1, 2, 4, 4), np.uint8)
    stack[:, :, :, 1, 1] = 2  # four pixels in four planes are four components
    target = Memory(np.zeros_like(stack))
    filter_components(Memory(stack), target, SizeRule(1, 2), NOBODY)
    assert (target.values == 1).all()


def test_nothing_but_background():
    plane = np.ones((5, 4), np.uint8)
    assert np.array_equal(filtered(plane, SizeRule(1, 3)), plane)
