"""Walks against a dense linear system written out, and against borders that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fieldmark.models import refine
from fieldmark.models.refine import Walker, build_refiner


def by_hand(shares: np.ndarray, pixels: np.ndarray, certain: float, beta: float) -> np.ndarray:
    """For each uncertain pixel: its share of a class is the weighted mean of its neighbors' shares. Pixel by pixel."""
    count, height, width = shares.shape
    known = shares.max(axis=0) >= certain
    matrix, right = np.zeros((height * width,) * 2), np.zeros((height * width, count))
    for y in range(height):
        for x in range(width):
            own = y * width + x
            if known[y, x]:
                matrix[own, own], right[own, shares[:, y, x].argmax()] = 1, 1
                continue
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < height and 0 <= u < width:
                    squared = [(pixels[c, y, x] - pixels[c, v, u]) ** 2 for c in range(len(pixels))]
                    weight = np.exp(-beta * sum(squared) / len(squared))
                    matrix[own, own] += weight
                    matrix[own, v * width + u] -= weight
    return np.linalg.solve(matrix, right).T.reshape(shares.shape)


def drawn(channels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random shares of three classes, more of them certain than not, and random pixels."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet([0.3, 0.3, 0.3], (9, 12)).transpose(2, 0, 1).astype(np.float32)
    return shares, rng.normal(size=(channels, 9, 12)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("beta", [0.0, 2.0])
def test_shares_solve_the_equations(channels, beta):
    shares, pixels = drawn(channels)
    found = Walker(0.7, beta).walk(shares, pixels)
    assert np.allclose(found, by_hand(shares, pixels, 0.7, beta), atol=1e-5)
    assert np.allclose(found.sum(axis=0), 1, atol=1e-5)


def test_a_border_moves_to_where_the_image_has_it():
    """The object ends at column 20, and in row 33 below; a head that sees widely says 17 and 36."""
    y, x = np.mgrid[:50, :40]
    inside = (x < 20) & (y < 33)
    pixels = np.where(inside, 1.0, -1.0)[None].astype(np.float32)
    distance = np.minimum(17 - x, 36 - y)
    object_ = 1 / (1 + np.exp(-distance / 3.0))
    shares = np.stack([1 - object_, object_]).astype(np.float32)
    assert ((shares[1] > 0.5) != inside).sum() > 50
    refined = Walker().walk(shares, pixels)
    assert np.array_equal(refined.argmax(axis=0) == 1, inside)


def test_certain_pixels_keep_their_class_but_those_that_are_unsaid():
    shares, pixels = drawn(2, seed=3)
    best, certain = shares.argmax(axis=0), shares.max(axis=0) >= 0.8
    assert np.array_equal(Walker().walk(shares, pixels).argmax(axis=0)[certain], best[certain])
    unsaid = np.zeros(certain.shape, bool)
    unsaid[4, 2:10] = True
    emptied = np.where(unsaid, 1 / 3, shares).astype(np.float32)
    assert np.array_equal(Walker().walk(shares, pixels, unsaid), Walker().walk(emptied, pixels))


def test_where_there_is_nothing_to_walk_between_the_head_answers():
    shares, pixels = drawn(1)
    assert np.array_equal(Walker().walk(shares, np.zeros_like(pixels)), shares)
    one_sided = np.stack([np.full((4, 5), 0.9), np.full((4, 5), 0.1)]).astype(np.float32)
    assert np.array_equal(Walker().walk(one_sided, np.random.default_rng(0).normal(size=(1, 4, 5))), one_sided)


def test_a_class_that_is_nowhere_certain_gets_nothing():
    shares = np.full((3, 6, 6), 0.05, np.float32)
    shares[0, :, :3], shares[2, :, 3:] = 0.9, 0.9
    shares[:, 2:4, 2:4] = np.array([0.3, 0.4, 0.3])[:, None, None]
    refined = Walker().walk(shares, np.random.default_rng(0).normal(size=(1, 6, 6)))
    assert (refined[1] == 0).all()


def test_no_more_pixels_are_solved_for_than_memory_is_kept_for(monkeypatch):
    shares = np.random.default_rng(0).dirichlet([4, 4], (30, 30)).transpose(2, 0, 1)
    pixels = np.random.default_rng(1).normal(size=(1, 30, 30))
    monkeypatch.setattr(refine, "MOST", 100)
    refined = Walker().walk(shares, pixels)
    best = shares.max(axis=0)
    walked = best < np.sort(best.ravel())[100]
    assert walked.sum() == 100
    assert np.array_equal(refined[0][~walked], (shares[0] > shares[1])[~walked])
    assert (refined[0][walked] != shares[0][walked]).all()


def test_fewer_pixels_of_volumes_are_solved_for(monkeypatch):
    monkeypatch.setattr(refine, "MOST", 300)
    monkeypatch.setattr(refine, "MOST_SOLID", 100)
    rng = np.random.default_rng(0)
    for shape, most in (((30, 30), 300), ((1, 30, 30), 300), ((9, 10, 10), 100)):
        shares = np.moveaxis(rng.dirichlet([4, 4], shape), -1, 0)
        refined = Walker().walk(shares, rng.normal(size=(1, *shape)))
        least = shares.max(axis=0)
        walked = least < np.sort(least.ravel())[most]
        assert np.array_equal(refined[0][~walked], (shares[0] > shares[1])[~walked])
        # walks that can end in one class alone say 1, too
        assert (refined[0] % 1 != 0).sum() > 0.9 * most


@pytest.mark.parametrize(
    ("certain", "beta"), [(0.5, 1), (1.1, 1), (np.nan, 1), (0.8, -1), (0.8, np.nan), (0.8, np.inf)]
)
def test_settings_that_mean_nothing_are_refused(certain, beta):
    with pytest.raises(ValueError, match="certain must be"):
        Walker(certain, beta)


def test_volumes_and_batches():
    rng = np.random.default_rng(0)
    shares = torch.from_numpy(rng.dirichlet([0.3, 0.3], (2, 4, 7, 6)).transpose(0, 4, 1, 2, 3).astype(np.float32))
    pixels = torch.from_numpy(rng.normal(size=(2, 1, 4, 7, 6)).astype(np.float32))
    together = Walker()(shares, pixels)
    alone = [Walker()(shares[n : n + 1], pixels[n : n + 1])[0] for n in range(2)]
    assert torch.equal(together, torch.stack(alone))
    # a volume of one slice is its plane
    plane = Walker()(shares[:, :, 0], pixels[:, :, 0])
    assert torch.allclose(Walker()(shares[:, :, :1], pixels[:, :, :1])[:, :, 0], plane, atol=1e-6)


def test_it_is_saved_as_data_and_nonsense_is_refused():
    config = Walker(0.7, 2.0).config()
    assert (build_refiner(config).certain, build_refiner(config).beta) == (0.7, 2.0)
    for wrong in ({"kind": "other"}, {"kind": "random-walker", "certain": 0.2}, {"kind": "random-walker", "beta": -1}):
        with pytest.raises(ValueError, match=r"must be|unknown"):
            build_refiner(wrong)
