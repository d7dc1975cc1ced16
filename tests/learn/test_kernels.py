"""Each estimator of kernels against loops written from the papers, on patches whose clusters are beyond doubt."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits
from torch.nn import functional

from fieldmark.learn.kernels import (
    Kernels,
    choose_points,
    cluster_markers,
    estimate_kernels,
    even_shares,
    fold,
    point_kernels,
    principal_axes,
    prune_kernels,
    random_kernels,
    reduce_kernels,
)
from fieldmark.recipes import KernelConfig

GROUPS = {7: (30, 30, 3), 3: (20, 25), 5: (40, 10)}
KLASS = {7: 1, 3: 1, 5: 0}


class Drawn:
    """Patches in tight groups: strokes 7 and 3 are of class 1, stroke 5 of class 0; each holds groups of its own."""

    def __init__(self, dimension: int = 12) -> None:
        rng = np.random.default_rng(4)
        patches, strokes, parts = [], [], []
        for stroke, sizes in GROUPS.items():
            for part, size in enumerate(sizes):
                middle = rng.normal(0, 10, dimension)
                patches.append(middle + rng.normal(0, 0.05, (size, dimension)))
                strokes += [stroke] * size
                parts += [(stroke, part)] * size
        order = rng.permutation(len(strokes))
        self.patches = np.concatenate(patches)[order]
        self.strokes = np.array(strokes)[order]
        self.classes = np.array([KLASS[s] for s in self.strokes])
        self.parts = [parts[i] for i in order]

    def rows(self, part: tuple[int, int]) -> list[int]:
        return [row for row, own in enumerate(self.parts) if own == part]

    def center(self, part: tuple[int, int]) -> np.ndarray:
        return np.mean([self.patches[row] for row in self.rows(part)], axis=0)

    def nearest(self, part: tuple[int, int]) -> int:
        return min(self.rows(part), key=lambda row: sum((self.patches[row] - self.center(part)) ** 2))

    def wanted(self, *strokes: int, real: bool = False) -> list[np.ndarray]:
        parts = [(stroke, part) for stroke in strokes for part in range(len(GROUPS[stroke]))]
        found = [self.patches[self.nearest(part)] if real else self.center(part) for part in parts]
        return [vector / np.sqrt(sum(vector**2)) for vector in found]

    def estimate(self, per_group: int = 3, most: int | None = None, seed: int = 0, **config: object) -> Kernels:
        how = KernelConfig(n_init=8, **config)
        return estimate_kernels(
            self.patches, self.strokes, self.classes, config=how, per_group=per_group, most=most, seed=seed
        )


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return Drawn()


def same_rows(found: np.ndarray, wanted: list[np.ndarray], atol: float = 1e-5) -> bool:
    """Whether both hold the same vectors, in any order."""
    left = list(wanted)
    for row in found:
        hits = [i for i, vector in enumerate(left) if np.allclose(row, vector, atol=atol)]
        if not hits:
            return False
        left.pop(hits[0])
    return not left


class TestEstimators:
    def test_centers_are_the_means_of_each_strokes_groups(self, drawn):
        only = drawn.strokes == 7
        found = cluster_markers(
            drawn.patches[only], drawn.strokes[only], 3, 0, config=KernelConfig(n_init=8), classes=drawn.classes[only]
        )
        assert same_rows(found.weight, drawn.wanted(7))
        assert found.klass.tolist() == [1, 1, 1]

    def test_nearest_gives_real_patches_and_names_them(self, drawn):
        for stroke, count in ((7, 3), (3, 2), (5, 2)):
            only = np.flatnonzero(drawn.strokes == stroke)
            config = KernelConfig(kind="nearest", n_init=8)
            found = cluster_markers(drawn.patches[only], drawn.strokes[only], count, 0, config=config)
            assert same_rows(found.weight, drawn.wanted(stroke, real=True))
            for kernel, row in zip(found.weight, found.patch, strict=True):
                patch = drawn.patches[only][row]
                assert np.allclose(kernel, patch / np.linalg.norm(patch))

    def test_kernels_come_in_the_order_of_their_strokes_with_their_class(self, drawn):
        found = drawn.estimate(per_group=2)
        assert drawn.strokes[found.patch].tolist() == [3, 3, 5, 5, 7, 7]
        assert found.klass.tolist() == [1, 1, 0, 0, 1, 1]
        assert np.allclose((found.weight**2).sum(axis=1), 1)

    def test_grouping_by_class_clusters_its_strokes_together(self, drawn):
        found = drawn.estimate(per_group=5, grouping="class")
        assert found.klass.tolist() == [0] * 5 + [1] * 5
        of_one = found.weight[5:]
        assert same_rows(of_one, drawn.wanted(3, 7))

    def test_small_clusters_are_dropped_by_their_share_of_the_group(self, drawn):
        def count(share: float) -> int:
            return int((drawn.strokes[drawn.estimate(min_share=share).patch] == 7).sum())

        assert count(3 / 63 - 1e-6) == 3
        assert count(3 / 63 + 1e-3) == 2

    def test_the_largest_cluster_stays_whatever_share_is_asked_for(self, drawn):
        found = drawn.estimate(min_share=0.99)
        assert set(drawn.strokes[found.patch]) == {3, 5, 7}

    def test_points_are_the_marked_patches_nearest_to_the_centers(self, drawn):
        only = np.flatnonzero(drawn.strokes == 7)
        rows = choose_points(drawn.patches[only], drawn.strokes[only], 3, 0, config=KernelConfig(n_init=8))
        assert set(only[rows]) == {drawn.nearest((7, part)) for part in range(3)}

    def test_points_look_at_the_patches_they_are_given_in_each_layer(self, drawn):
        later = np.random.default_rng(1).normal(size=(6, 20))
        found = estimate_kernels(
            later, np.arange(6), np.array([0, 0, 1, 1, 2, 2]), config=KernelConfig(kind="points"),
            per_group=1, most=6, seed=0,
        )  # fmt: skip
        assert np.allclose(found.weight, [patch / np.linalg.norm(patch) for patch in later])
        assert found.patch.tolist() == list(range(6))
        assert found.klass.tolist() == [0, 0, 1, 1, 2, 2]

    def test_fewer_kernels_than_points_keep_every_class(self, drawn):
        kinds = np.array(drawn.classes)
        found = point_kernels(drawn.patches, kinds, 7, 0)
        assert len(found.weight) <= 7
        assert {0, 1} == set(found.klass)
        assert np.allclose(
            found.weight[0], drawn.patches[found.patch[0]] / np.linalg.norm(drawn.patches[found.patch[0]])
        )
        assert len(set(found.patch)) == len(found.patch)

    @given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(0, 60))
    @settings(deadline=None)
    def test_shares_are_even_and_within_what_there_is(self, counts, most):
        shares = even_shares(np.array(counts), most)
        assert shares.sum() == min(most, sum(counts))
        assert (shares <= counts).all()
        for i, j in combinations(range(len(counts)), 2):
            if shares[i] < counts[i] and shares[j] < counts[j]:
                assert abs(shares[i] - shares[j]) <= 1

    def test_random_kernels_are_the_axes_of_uniform_ones(self):
        found = random_kernels(27, 5, seed=3)
        assert found.weight.shape == (5, 27)
        assert np.allclose(found.weight @ found.weight.T, np.eye(5), atol=1e-9)
        assert len(found.patch) == len(found.klass) == 0
        assert not np.allclose(found.weight, random_kernels(27, 5, seed=4).weight)

    def test_random_kernels_are_no_more_than_their_numbers(self, drawn):
        assert random_kernels(3, 8, seed=0).weight.shape == (3, 3)
        assert random_kernels(1, 8, seed=0).weight.shape == (1, 1)
        assert drawn.estimate(kind="random", most=4).weight.shape == (4, 12)


class TestReduction:
    def test_axes_are_those_of_the_singular_values(self):
        points = np.random.default_rng(0).normal(size=(40, 7)) * np.array([9, 8, 5, 4, 3, 2, 1])
        _, _, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
        found = principal_axes(points, 4)
        assert np.allclose(np.abs((found * axes[:4]).sum(axis=1)), 1)
        assert all(axis[np.abs(axis).argmax()] > 0 for axis in found)

    def test_axes_without_variance_are_left_out(self):
        points = np.random.default_rng(0).normal(size=(40, 2)) @ np.random.default_rng(1).normal(size=(2, 7))
        assert len(principal_axes(points, 5)) == 2
        assert len(principal_axes(np.ones((5, 3)), 5)) == 0

    def test_pca_where_there_are_more_kernels_than_numbers(self):
        kernels = unit(np.random.default_rng(2).normal(size=(30, 6)))
        found = reduce_kernels(kernels, 4, 0, "pca")
        assert np.allclose(found.weight, principal_axes(kernels.weight, 4))
        for axis, row in zip(found.weight, found.patch, strict=True):
            assert row == max(range(30), key=lambda k: abs(sum(axis * kernels.weight[k])))

    def test_pca_where_there_are_fewer_is_k_means(self):
        kernels = unit(np.random.default_rng(2).normal(size=(10, 40)))
        by_pca, by_means = (reduce_kernels(kernels, 4, 0, how) for how in ("pca", "kmeans"))
        assert np.array_equal(by_pca.weight, by_means.weight)

    def test_k_means_gives_unit_means_of_groups(self):
        rng = np.random.default_rng(1)
        middles = np.eye(8)[:3]
        kernels = unit(np.repeat(middles, 6, axis=0) + rng.normal(0, 0.01, (18, 8)))
        means = [kernels.weight[6 * k : 6 * k + 6].mean(axis=0) for k in range(3)]
        found = reduce_kernels(kernels, 3, 0)
        assert same_rows(found.weight, [mean / np.linalg.norm(mean) for mean in means])

    def test_nearest_stays_a_real_patch(self):
        kernels = unit(np.random.default_rng(1).normal(size=(18, 8)))
        found = reduce_kernels(kernels, 3, 0, "kmeans", "nearest")
        assert np.allclose(found.weight, kernels.weight[found.patch])

    def test_no_more_than_wanted_stay_as_they_are(self):
        kernels = unit(np.random.default_rng(1).normal(size=(5, 8)))
        assert reduce_kernels(kernels, 5, 0) is kernels

    def test_kernels_all_alike_have_no_axes_and_stay_one(self):
        found = reduce_kernels(unit(np.ones((9, 3))), 2, 0, "pca")
        assert np.allclose(found.weight, np.ones((1, 3)) / np.sqrt(3))

    def test_opposite_kernels_have_no_mean_and_give_a_real_one(self):
        found = reduce_kernels(unit(np.array([[1.0, 0], [-1, 0]])), 1, 0)
        assert np.allclose(np.abs(found.weight), [[1, 0]])


class TestPruning:
    @given(st.integers(0, 10**6), st.floats(0.1, 1.0))
    @settings(max_examples=30, deadline=None)
    def test_it_keeps_what_loops_keep(self, seed, level):
        kernels = unit(np.random.default_rng(seed).normal(size=(12, 3)))
        kept: list[int] = []
        for j in range(12):
            if all(abs(sum(kernels.weight[i] * kernels.weight[j])) < level for i in kept):
                kept.append(j)
        found = prune_kernels(kernels, level)
        assert found.patch.tolist() == kept
        assert np.array_equal(found.weight, kernels.weight[kept])

    def test_an_opposite_kernel_is_alike(self, drawn):
        assert len(prune_kernels(unit(np.array([[1.0, 2], [-1, -2], [2, -1]])), 0.85).weight) == 2
        exact = Kernels(np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]]), np.arange(2))
        assert len(prune_kernels(exact, 0.5).weight) == 1  # "at least" drops
        assert len(prune_kernels(exact, 0.5000001).weight) == 2
        assert len(drawn.estimate(similarity=1e-9).weight) == 1


class TestFolding:
    def folded(self, mode: str) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng(0)
        image, weight = rng.normal(5, 3, (1, 3, 9, 8)), rng.normal(size=(4, 3, 3, 3))
        bias, mean, std = rng.normal(size=4), rng.normal(5, 1, 3), rng.uniform(1, 3, 3)
        standardized = torch.from_numpy((image - mean[:, None, None]) / std[:, None, None])
        pad = {"constant": (1, 1, 1, 1)}
        wanted = functional.conv2d(
            functional.pad(standardized, pad.get(mode, (1,) * 4), mode=mode), torch.from_numpy(weight),
            torch.from_numpy(bias),
        )  # fmt: skip
        if mode == "constant":  # zeros after normalization are the mean before it
            raw = np.broadcast_to(mean[None, :, None, None], (1, 3, 11, 10)).copy()
            raw[:, :, 1:-1, 1:-1] = image
        else:
            raw = functional.pad(torch.from_numpy(image), (1,) * 4, mode=mode).numpy()
        new_weight, new_bias = fold(weight, bias, mean, std)
        found = functional.conv2d(torch.from_numpy(raw), torch.from_numpy(new_weight), torch.from_numpy(new_bias))
        return found, wanted

    @pytest.mark.parametrize("mode", ["constant", "replicate", "reflect"])
    def test_it_is_exact_to_the_borders(self, mode):
        found, wanted = self.folded(mode)
        assert torch.allclose(found, wanted, atol=1e-12)

    def test_volumes_fold_alike(self):
        rng = np.random.default_rng(1)
        weight, mean, std = rng.normal(size=(2, 3, 3, 3, 3)), rng.normal(size=3), rng.uniform(1, 2, 3)
        patch = rng.normal(size=(3, 3, 3, 3))
        new_weight, new_bias = fold(weight, np.zeros(2), mean, std)
        own = (slice(None), None, None, None)
        for k in range(2):
            wanted = (weight[k] * (patch - mean[own]) / std[own]).sum()
            assert (new_weight[k] * patch).sum() + new_bias[k] == pytest.approx(wanted)


class TestEdges:
    def test_fewer_patches_than_kernels_are_all_kernels(self):
        patches = np.array([[3.0, 4.0], [0.0, 2.0], [3.0, 4.0]])
        found = cluster_markers(patches, np.zeros(3, int), 8, 0)
        assert np.allclose(found.weight, [[0.6, 0.8], [0, 1]])
        assert found.patch.tolist() == [0, 1]

    def test_constant_patches_give_one_kernel_without_direction(self):
        found = cluster_markers(np.zeros((20, 4)), np.zeros(20, int), 3, 0, classes=np.ones(20, int))
        assert np.array_equal(found.weight, np.zeros((1, 4)))
        assert found.klass.tolist() == [1]

    def test_a_constant_marker_beside_others_gives_none(self, drawn):
        patches = np.where(drawn.strokes[:, None] == 5, 0.0, drawn.patches)
        found = cluster_markers(patches, drawn.strokes, 2, 0, classes=drawn.classes)
        assert set(found.klass) == {1}

    @pytest.mark.parametrize("kind", ["centers", "nearest", "points", "random"])
    def test_one_patch_is_enough(self, kind):
        found = estimate_kernels(
            np.array([[3.0, 4.0]]), np.array([9]), np.array([2]),
            config=KernelConfig(kind=kind), per_group=5, most=4, seed=0,
        )  # fmt: skip
        assert np.allclose((found.weight**2).sum(axis=1), 1)
        if kind != "random":
            assert found.klass.tolist() == [2]

    @pytest.mark.parametrize("kind", ["centers", "nearest", "random"])
    def test_neither_threads_nor_repetition_change_a_bit(self, kind):
        patches = np.random.default_rng(0).normal(size=(3000, 48)).astype(np.float32)
        strokes = np.arange(3000) % 3
        found = []
        for threads in (1, 2, 2):
            with threadpool_limits(threads):
                found.append(
                    estimate_kernels(
                        patches, strokes, strokes, config=KernelConfig(kind=kind), per_group=6, most=10, seed=1
                    )
                )
        assert all(np.array_equal(found[0].weight, other.weight) for other in found)
        assert all(np.array_equal(found[0].patch, other.patch) for other in found)


def unit(weight: np.ndarray) -> Kernels:
    rows = np.arange(len(weight))
    return Kernels(weight / np.linalg.norm(weight, axis=1, keepdims=True), rows, rows % 2)
