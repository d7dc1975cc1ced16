"""Crops with their targets: where they lie, what they hold, what is unknown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from fieldmark.checkpoint import ClassSpec
from fieldmark.core.fingerprint import file_hash
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.learn.lessons import LessonBatches, Shape
from fieldmark.learn.run import FitJob, prepared_net
from fieldmark.learn.samples import Marks, SampleImage, Samples
from fieldmark.learn.splits import split_images
from fieldmark.learn.targets import ImageTargets, LabelTargets, MarkTargets, Weighted, targets_of
from fieldmark.recipes import FitRecipe, validate
from fieldmark.recipes.data import DataConfig, MaskConfig, SplitConfig, TargetConfig
from fieldmark.recipes.train import AugmentConfig, TrainConfig

STILL = AugmentConfig(flip=0.0, rot90=False)
CLASSES = (ClassSpec(id=1, name="background", value=0), ClassSpec(id=2, name="cell", value=7))
SIZE = (3, 20, 30)  # z, y, x


def places(shape: tuple[int, ...] = SIZE) -> np.ndarray:
    """Every pixel says where it is: z * 10000 + y * 100 + x."""
    z, y, x = np.indices(shape)
    return (z * 10_000 + y * 100 + x).astype(np.uint16)


def sample(folder: Path, name: str = "a", **files: np.ndarray) -> SampleImage:
    """An image whose pixels say where they are, with the files that are given."""
    paths = {}
    for what, values in ({"image": places()} | files).items():
        paths[what] = folder / f"{name}-{what}.tif"
        tifffile.imwrite(paths[what], values, photometric="minisblack", metadata={"axes": "ZYX"})
    target, mask = (paths.get(what, "") for what in ("target", "mask"))
    return SampleImage(
        f"{name}.tif",
        str(paths["image"]),
        file_hash(paths["image"]),
        target=str(target),
        target_hash=file_hash(target) if target else "",
        mask=str(mask),
        mask_hash=file_hash(mask) if mask else "",
    )


def samples_of(*images: SampleImage, marks: Marks | None = None) -> Samples:
    return Samples(list(images), marks or Marks.none(), 2)


def batches(samples: Samples, targets: object, shape: Shape, **settings: object) -> LessonBatches:
    config = TrainConfig(**{"batch_size": 4, "crops_per_epoch": 8, "augment": STILL, **settings})
    return LessonBatches(samples, targets, shape, config, range(len(samples.images)), seed=0)


PLANES = Shape((1, 8, 12), 0, stack=False, spatial=2)


def marks_at(*rows: tuple[int, int, int, int]) -> Marks:
    """Rows of z, y, x, class on the first image."""
    table = np.array(rows)
    place = np.column_stack([np.zeros(len(table), np.int64), table[:, :3]])
    return Marks(np.zeros(len(table), np.int64), place, np.arange(len(table)), table[:, 3])


def test_strokes_are_known_and_all_else_is_not(tmp_path):
    targets = MarkTargets(samples_of(sample(tmp_path), marks=marks_at((1, 4, 5, 1), (1, 4, 6, 0), (0, 0, 0, 1))))
    found, weight = targets.read(0, Box((0, 1, 2, 3), (1, 2, 9, 10)))
    assert (found.shape, weight.sum()) == ((1, 1, 7, 7), 2)
    assert (found[0, 0, 2, 2], weight[0, 0, 2, 2]) == (1, 1)
    assert (found[0, 0, 2, 3], weight[0, 0, 2, 3]) == (0, 1)


def test_crops_lie_around_strokes(tmp_path):
    samples = samples_of(sample(tmp_path), marks=marks_at((2, 19, 29, 1), (0, 0, 0, 0)))
    made = batches(samples, MarkTargets(samples), PLANES)
    for index in range(2):
        lesson = made.get(0, index)
        assert (lesson.weight.flatten(1).sum(dim=1) >= 1).all()


def test_label_maps_by_the_values_of_classes(tmp_path):
    labels = np.zeros(SIZE, np.uint8)
    labels[1, 5:9, 5:9], labels[1, 0, 0], labels[1, 0, 1] = 7, 255, 3
    samples = samples_of(sample(tmp_path, target=labels))
    targets = LabelTargets(samples, CLASSES, DataConfig(target=TargetConfig(kind="labels", ignore=255)))
    found, weight = targets.read(0, Box((0, 1, 0, 0), (1, 2, 20, 30)))
    assert np.array_equal(found[0, 0] == 1, labels[1] == 7)
    assert np.array_equal(weight[0, 0] == 0, (labels[1] == 255) | (labels[1] == 3))  # no class has the value 3


def test_values_from_the_number_of_classes_on_are_background(tmp_path):
    labels = np.arange(20 * 30, dtype=np.uint16).reshape(1, 20, 30).repeat(3, 0)
    samples = samples_of(sample(tmp_path, target=labels))
    classes = tuple(ClassSpec(id=n + 1, name=str(n), value=n) for n in range(3))
    targets = LabelTargets(samples, classes, DataConfig(target=TargetConfig(kind="labels", classes=3)))
    found, weight = targets.read(0, Box((0, 0, 0, 0), (1, 1, 1, 6)))
    assert found.ravel().tolist() == [0, 1, 2, 0, 0, 0]
    assert weight.all()


@pytest.mark.parametrize("mask", [None, MaskConfig(channel=0, method="otsu")])
def test_values_that_count_as_background_are_told_before_the_fit(tmp_path, mask):
    """255 for unlabelled, as other programs write it, would teach background; `ignore` makes it unknown."""
    plain = np.zeros(SIZE, np.uint8)
    plain[:, 5:9, 5:9] = 1
    odd = plain.copy()
    odd[1, 12, 3], odd[2, 15:, 20:], odd[0, 0, 0] = 7, 255, 2
    classes = tuple(ClassSpec(id=n + 1, name=str(n), value=n) for n in range(2))
    samples = samples_of(*(sample(tmp_path, name, target=own) for name, own in (("a", plain), ("b", odd))))

    def told(**target: object) -> list[str]:
        asked = TargetConfig(kind="labels", **target)
        recipe = FitRecipe(family="unet", net={"filters": (2, 3)}, data=DataConfig(target=asked, mask=mask))
        _, _, notes = prepared_net(FitJob(recipe, samples, classes, tmp_path))
        return [note.message for note in notes if "count as background" in note.message]

    (said,) = told(classes=2)
    assert "Values from 2 on count as background: 2, 7, 255 in the label maps of b.tif." in said
    assert "--set data.target.ignore=255" in said
    assert "2, 7 in the label maps of b.tif" in told(classes=2, ignore=255)[0]
    assert not told()
    assert not told(classes=2, objects=True)


def test_objects_are_one_class(tmp_path):
    labels = np.arange(20 * 30, dtype=np.uint16).reshape(1, 20, 30).repeat(3, 0)
    samples = samples_of(sample(tmp_path, target=labels))
    classes = tuple(ClassSpec(id=n + 1, name=str(n), value=n) for n in range(2))
    targets = LabelTargets(samples, classes, DataConfig(target=TargetConfig(kind="labels", objects=True, ignore=5)))
    found, weight = targets.read(0, Box((0, 0, 0, 0), (1, 1, 1, 7)))
    assert found.ravel()[[0, 1, 2, 3, 4, 6]].tolist() == [0, 1, 1, 1, 1, 1]
    assert weight.ravel().tolist() == [1, 1, 1, 1, 1, 0, 1]


def test_unknown_pixels_are_not_what_label_maps_hold(tmp_path):
    """0, and 255 for unknown: no class was numbered too high, there is none."""
    labels = np.zeros(SIZE, np.uint8)
    labels[1, 5:9, 5:9] = 255
    classes = tuple(ClassSpec(id=n + 1, name=str(n), value=n) for n in range(3))
    config = DataConfig(target=TargetConfig(kind="labels", classes=3, ignore=255))
    with pytest.raises(BadInput, match=r"background alone: 0 alone \(num_classes"):
        LabelTargets(samples_of(sample(tmp_path, target=labels)), classes, config).check()


def test_a_channel_that_a_label_map_has_not_is_named(tmp_path):
    samples = samples_of(sample(tmp_path, target=np.zeros(SIZE, np.uint8)))
    config = DataConfig(target=TargetConfig(kind="labels", channels=(3,)))
    with pytest.raises(BadInput, match=r"data\.target\.channels names channel 3, and it has 1"):
        LabelTargets(samples, CLASSES, config).check()


def test_image_and_target_are_of_the_same_place(tmp_path):
    samples = samples_of(sample(tmp_path, target=places() * 2))
    targets = ImageTargets(samples, DataConfig(target=TargetConfig(kind="image", folder="there")))
    made = batches(samples, targets, PLANES)
    for epoch in range(3):
        for index in range(made.per_epoch):
            lesson = made.get(epoch, index)
            assert (lesson.x * 2 == lesson.target).all()
            assert lesson.weight.all()


def test_batches_depend_on_their_place_alone(tmp_path):
    samples = samples_of(sample(tmp_path, target=places()), sample(tmp_path, "b", target=places()))
    targets = ImageTargets(samples, DataConfig(target=TargetConfig(kind="image")))
    first, second = (batches(samples, targets, PLANES) for _ in range(2))
    straight = [first.get(epoch, index).x for epoch in range(2) for index in range(2)]
    assert (second.get(1, 1).x == straight[3]).all()
    assert (second.get(0, 1).x == straight[1]).all()
    assert not (straight[0] == straight[2]).all()  # another epoch, other crops


@pytest.mark.parametrize("shape", [PLANES, Shape((3, 8, 12), 0, stack=False, spatial=3)], ids=["planes", "volumes"])
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_an_epoch_is_a_share_of_the_crops_that_cover_what_teaches(tmp_path, shape, share):
    """Of two images one teaches: 3 x 20 x 30 voxels."""
    samples = samples_of(sample(tmp_path, target=places()), sample(tmp_path, "b", target=places()))
    targets = ImageTargets(samples, DataConfig(target=TargetConfig(kind="image")))
    config = TrainConfig(batch_size=1, augment=STILL, crops_share=share)
    made = LessonBatches(samples, targets, shape, config, [0], seed=0)
    assert made.per_epoch == round(share * 3 * 20 * 30 / np.prod(shape.crop))


def test_two_processes_share_a_batch(tmp_path):
    samples = samples_of(sample(tmp_path, target=places()))
    targets = ImageTargets(samples, DataConfig(target=TargetConfig(kind="image")))
    whole = batches(samples, targets, PLANES).get(0, 1)
    halves = []
    for rank in range(2):
        made = batches(samples, targets, PLANES)
        made.rank, made.world = rank, 2
        halves.append(made.get(0, 1).x)
    assert (halves[0] == whole.x[0::2]).all()
    assert (halves[1] == whole.x[1::2]).all()


@pytest.mark.parametrize("stack", [False, True])
def test_windows_of_slices_repeat_the_ends(tmp_path, stack):
    samples = samples_of(sample(tmp_path, target=places()))
    targets = ImageTargets(samples, DataConfig(target=TargetConfig(kind="image")))
    made = batches(samples, targets, Shape((1, 8, 12), 3, stack=stack, spatial=3))
    seen = set()
    for index in range(4):
        lesson = made.get(0, index)
        assert lesson.x.shape == (4, 1, 3, 8, 12)
        assert lesson.target.shape == (4, 1, 3 if stack else 1, 8, 12)
        for x, target in zip(lesson.x[:, 0].numpy(), lesson.target[:, 0].numpy(), strict=True):
            z = int(x[1, 0, 0]) // 10_000
            assert [int(plane[0, 0]) // 10_000 for plane in x] == [max(0, z - 1), z, min(2, z + 1)]
            assert np.array_equal(target, x if stack else x[1:2])
            seen.add(z)
    assert seen == {0, 1, 2}


def test_volumes_larger_than_the_image_are_grown_and_unknown_there(tmp_path):
    samples = samples_of(sample(tmp_path, target=places()))
    targets = ImageTargets(samples, DataConfig(target=TargetConfig(kind="image")))
    lesson = batches(samples, targets, Shape((4, 24, 32), 0, stack=False, spatial=3)).get(0, 0)
    assert lesson.x.shape == (4, 1, 4, 24, 32)
    assert lesson.weight[0].sum() == 3 * 20 * 30
    assert lesson.weight[0, 0, :3, :20, :30].all()


def test_validation_covers_images_without_chance(tmp_path):
    samples = samples_of(sample(tmp_path, target=places()))
    targets = ImageTargets(samples, DataConfig(target=TargetConfig(kind="image")))
    made = batches(samples, targets, PLANES, augment=AugmentConfig(flip=1.0, noise=5.0))
    seen = np.concatenate([lesson.target.numpy().ravel() for lesson in made.validation([0])])
    assert set(seen.astype(int)) == set(places().ravel().astype(int))
    again = np.concatenate([lesson.target.numpy().ravel() for lesson in made.validation([0])])
    assert np.array_equal(seen, again)


def test_validation_finds_the_little_that_is_known(tmp_path):
    """One pixel of a map whose crops are far more than those that validate; evenly spread ones would miss it."""
    labels = np.full((1, 400, 400), 9, np.uint8)
    labels[0, 171, 333] = 7
    samples = samples_of(sample(tmp_path, image=places((1, 400, 400)), target=labels))
    targets = LabelTargets(samples, CLASSES, DataConfig(target=TargetConfig(kind="labels", ignore=9)))
    made = batches(samples, targets, PLANES)
    (lesson,) = made.validation([0])
    assert lesson.weight.sum() == 1
    assert lesson.x[lesson.weight > 0].item() == places((1, 400, 400))[0, 171, 333]


def test_masks_weigh_and_labels_of_masks_by_their_weight(tmp_path):
    mask = np.zeros(SIZE, np.uint8)
    mask[:, :10], mask[:, 10:15] = 255, 128
    samples = samples_of(sample(tmp_path, target=places(), mask=mask))
    config = DataConfig(target=TargetConfig(kind="image"), mask=MaskConfig(folder="masks"))
    _, weight = targets_of(samples, config, ()).read(0, Box((0, 0, 0, 0), (1, 1, 20, 30)))
    assert np.allclose(weight[0, 0], mask[0] / 255)
    labelled = samples_of(sample(tmp_path, "l", target=places(), mask=(mask > 0).astype(np.uint8)))
    config = DataConfig(target=TargetConfig(kind="image"), mask=MaskConfig(folder="masks", label_weights=(0.5, 3.0)))
    made = targets_of(labelled, config, ())
    assert isinstance(made, Weighted)
    _, weight = made.read(0, Box((0, 0, 0, 0), (1, 1, 20, 30)))
    assert np.array_equal(weight[0, 0], np.where(mask[0] > 0, 3.0, 0.5))


@pytest.mark.parametrize("unknown", [{"ignore": 9}, {"classes": 2}])
def test_what_is_no_object_has_no_border(tmp_path, unknown):
    """Two squares of one value with a stripe that is unknown, or background by its value: as without the stripe."""
    plain = np.zeros(SIZE, np.uint8)
    plain[:, 4:12, 4:12] = plain[:, 4:12, 15:23] = 1
    striped = plain.copy()
    striped[:, 14:] = 9
    classes = tuple(ClassSpec(id=n + 1, name=str(n), value=n) for n in range(2))
    made = []
    for name, labels in (("plain", plain), ("striped", striped)):
        config = DataConfig(target=TargetConfig(kind="labels", **unknown), mask=MaskConfig(method="borders"))
        targets = targets_of(samples_of(sample(tmp_path, name, target=labels)), config, classes)
        made.append(targets.read(0, Box((0, 0, 0, 0), (1, 1, 20, 30)))[1][0, 0])
    assert np.allclose(made[0][6, 12:15], 1 + 10 * np.exp(-((1 + 3) ** 2) / 50))  # 1 and 3, 2 and 2, 3 and 1 pixels
    known = striped[0] != 9 if "ignore" in unknown else np.ones_like(plain[0], bool)
    assert np.array_equal(made[1], made[0] * known)


@pytest.mark.parametrize("method", ["otsu", "borders"])
def test_a_plane_that_is_too_large_to_be_masked_is_named(tmp_path, monkeypatch, method):
    """Memory follows the crop; a computed mask is of a whole plane."""
    monkeypatch.setattr("fieldmark.learn.targets.LARGEST_VOLUME", 20 * 30 - 1)
    labels = (places() % 2).astype(np.uint8)
    classes = tuple(ClassSpec(id=n + 1, name=str(n), value=n) for n in range(2))
    config = DataConfig(target=TargetConfig(kind="labels"), mask=MaskConfig(method=method, channel=0))
    targets = targets_of(samples_of(sample(tmp_path, target=labels)), config, classes)
    with pytest.raises(BadInput, match=rf"data\.mask\.method={method}: a plane of a\.tif \(30 x 20 pixels\) cannot"):
        targets.read(0, Box((0, 0, 0, 0), (1, 1, 4, 4)))


def test_a_target_of_another_size_is_named(tmp_path):
    samples = samples_of(sample(tmp_path, target=places((3, 20, 31))))
    with pytest.raises(BadInput, match=r"a-target\.tif: is 1 x 3 x 20 x 31 .* a\.tif is 1 x 3 x 20 x 30"):
        targets_of(samples, DataConfig(target=TargetConfig(kind="image")), ()).read(0, Box((0, 0, 0, 0), (1, 1, 2, 2)))


def test_nothing_to_learn_from(tmp_path):
    with pytest.raises(BadInput, match="nothing to learn from"):
        targets_of(samples_of(sample(tmp_path)), DataConfig(), CLASSES)


def told(count: int, **settings: object):
    images = [
        SampleImage(f"{n}.tif", "", "", group=f"g{n // 3}", split=("train", "val", "test")[n % 3]) for n in range(count)
    ]
    return split_images(images, range(count), SplitConfig(**settings), seed=1)


def test_images_are_parted_once_and_wholly():
    parts = told(20, by="image", train=0.6, validation=0.2, test=0.2)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [12, 4, 4]
    assert sorted(parts.train + parts.validation + parts.test) == list(range(20))
    assert told(20, by="image", train=0.6, validation=0.2, test=0.2) == parts
    assert told(20, by="image", train=0.6, validation=0.2, test=0.2, seed=7) != parts


def test_the_first_images_validate_of_a_share_rounded_down_as_in_openfibsem():
    """`images[: floor(share * N)]`, but never none of several: 4 of 30 at 15 %, not 5."""
    for share, held in {0.15: [(3, 1), (9, 1), (20, 3), (30, 4), (33, 4)], 0.3: [(10, 3), (5, 1), (6, 1)]}.items():
        for count, wanted in held:
            parts = told(count, by="image", train=1 - share, validation=share, order="first")
            assert parts.validation == list(range(wanted))
            assert parts.train == list(range(wanted, count))


def test_groups_are_never_split():
    parts = told(21, train=0.5, validation=0.3, test=0.2)
    groups = [{n // 3 for n in part} for part in (parts.train, parts.validation, parts.test)]
    assert all(groups)
    assert not (groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2])


def parted(rows: list[tuple[str, str]], **settings: object):
    """Images of (column, group), parted by the column."""
    images = [SampleImage(f"{n}.tif", "", "", group=group, column=column) for n, (column, group) in enumerate(rows)]
    return split_images(images, range(len(rows)), SplitConfig(**{"by": "patient", **settings}), seed=1)


def test_images_with_the_same_value_of_a_column_stay_together():
    rows = [(f"patient {n % 5}", "") for n in range(20)]
    parts = parted(rows, train=0.6, validation=0.2, test=0.2)
    people = [{n % 5 for n in part} for part in (parts.train, parts.validation, parts.test)]
    assert [len(one) for one in people] == [3, 1, 1]
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [12, 4, 4]


def test_a_column_never_splits_a_group():
    """Groups join the values of a column: a with b (by g1), b with c (by g2); d stands by itself, and so does each
    image of which nothing is said."""
    rows = [("a", ""), ("d", ""), ("c", "g2"), ("a", "g1"), ("b", "g1"), ("b", "g2"), ("", ""), ("", ""), ("d", "")]
    together = [{0, 2, 3, 4, 5}, {1, 8}, {6}, {7}]
    for seed in range(20):
        parts = parted(rows, train=0.5, validation=0.25, test=0.25, seed=seed)
        for part in (parts.train, parts.validation, parts.test):
            assert part
            assert all(one <= set(part) or not one & set(part) for one in together)


def test_a_column_that_cannot_part_the_images_is_refused():
    with pytest.raises(BadInput, match=r"data\.split\.by=patient: all have 'a'.* none can be held out"):
        parted([("a", "")] * 4)
    with pytest.raises(BadInput, match="groups join the images of its values"):
        parted([("a", "g"), ("b", "g"), ("b", "")])
    assert parted([("a", "")] * 4, train=1, validation=0).train == [0, 1, 2, 3]


def test_the_first_images_validate_where_that_is_asked():
    assert told(20, by="image", order="first", train=0.9, validation=0.1).validation == [0, 1]


@pytest.mark.parametrize(
    ("net", "split", "said"),
    [
        ({"dims": "2.5", "depth": 3}, {"by": "slice"}, True),
        ({"dims": "2.5", "depth": 3}, {"by": "image"}, False),
        ({"dims": "2.5", "depth": 3}, {"by": "slice", "train": 1, "validation": 0}, False),
        ({"dims": "2.5", "depth": 1}, {"by": "slice"}, False),
        ({"dims": "2"}, {"by": "slice"}, False),
    ],
)
def test_neighbors_that_are_held_out_and_seen_are_told(tmp_path, net, split, said):
    recipe = {
        "family": "unet",
        "net": net | {"filters": [4, 6]},
        "data": {"target": {"kind": "image", "channels": [0]}, "split": split},
    }
    images = samples_of(sample(tmp_path, target=places()))
    _, _, notes = prepared_net(FitJob(validate(FitRecipe, recipe), images, (), tmp_path / "run"))
    assert any("sees 3 of them at once" in note.message for note in notes) == said


def test_the_projects_own_split():
    parts = told(6, by="split")
    assert (parts.train, parts.validation, parts.test) == ([0, 3], [1, 4], [2, 5])


@pytest.mark.parametrize("count", [1, 2])
def test_few_images_all_teach(count):
    assert told(count).train == list(range(count))


def test_shares_must_sum_to_one():
    with pytest.raises(ValueError, match="sum to 1"):
        SplitConfig(train=0.5, validation=0.1)
