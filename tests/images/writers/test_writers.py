"""What is written is what is read, in every format; stopped and resumed; refused where it cannot be held."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldmark.core.axes import PixelSize
from fieldmark.core.geometry import Box, TilePlan
from fieldmark.errors import BadFile, BadInput, NotFound, TooLarge
from fieldmark.images import FORMAT_SUFFIX, create_writer, open_image

PLACES = [
    ("ome-zarr", (1, 1, 1, 70, 90), "u1", "yx", {}),
    ("ome-zarr", (1, 1, 1, 70, 90), "u4", "yx", {"label_names": {1: "cell", 2: "wall"}}),
    ("ome-zarr", (2, 3, 4, 30, 41), "f4", "tczyx", {"channel_names": ["a", "b", "c"]}),
    ("ome-zarr", (1, 2, 1, 70, 90), "i2", "cyx", {"version": "0.4", "channel_names": ["a", "b"]}),
    ("ome-zarr", (1, 1, 5, 70, 90), "f8", "zyx", {"version": "0.4", "levels": 3}),
    ("ome-zarr", (1, 1, 9, 20, 30), "i8", "zyx", {"chunk": (1, 1, 4, 16, 16)}),
    ("tiff", (1, 1, 1, 70, 90), "u2", "yx", {}),
    ("tiff", (1, 1, 1, 5, 3), "i8", "tczyx", {}),
    ("tiff", (1, 3, 1, 70, 90), "u1", "cyx", {}),
    ("tiff", (1, 4, 1, 70, 90), "u2", "cyx", {}),
    ("tiff", (1, 3, 1, 70, 90), "u1", "cyx", {"channel_names": ["a", "b", "c"]}),
    ("tiff", (1, 5, 1, 70, 90), "f4", "cyx", {}),
    ("tiff", (2, 3, 4, 30, 41), "i2", "tczyx", {}),
    ("tiff", (1, 1, 3, 30, 41), "u1", "zyx", {}),
    ("png", (1, 1, 1, 70, 90), "u2", "yx", {}),
    ("png", (1, 3, 1, 70, 90), "u2", "cyx", {}),
    ("png", (1, 4, 1, 70, 90), "u1", "tczyx", {}),
]
SIZE = PixelSize(z=2.5, y=0.5, x=0.25)


def truth_of(shape, dtype) -> np.ndarray:
    rng = np.random.default_rng(5)
    top = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1000
    return (rng.random(shape) * top).astype(dtype)


def cut(shape, tile=(1, 1, 1, 33, 47)) -> list[Box]:
    return [each.core for each in TilePlan(shape, tile, (0,) * 5, (1,) * 5)]


def everything(path) -> np.ndarray:
    with open_image(path) as source:
        return source.read(Box.whole(source.shape))


def start(folder: Path, form: str, shape, dtype, **facts):
    return create_writer(folder / f"a{FORMAT_SUFFIX[form]}", form, shape=shape, dtype=dtype, chunk=32, **facts)


@pytest.mark.parametrize(("form", "shape", "dtype", "axes", "facts"), PLACES)
def test_what_is_written_is_read(tmp_path, form, shape, dtype, axes, facts):
    truth = truth_of(shape, dtype)
    path = tmp_path / f"sub/a{FORMAT_SUFFIX[form]}"
    path.parent.mkdir()
    writer = create_writer(
        path, form, **({"shape": shape, "dtype": dtype, "axes": axes, "chunk": 32} | facts), pixel_size=SIZE
    )
    boxes = cut(shape)
    for i in np.random.default_rng(1).permutation(len(boxes)):
        writer.write(boxes[i], truth[boxes[i].slices])
    writer.finish()
    with open_image(path) as source:
        assert (source.shape, source.dtype) == (shape, np.dtype(dtype))
        np.testing.assert_array_equal(source.read(Box.whole(shape)), truth)
        if form != "png":
            assert source.pixel_size.x == pytest.approx(0.25)
            assert source.pixel_size.y == pytest.approx(0.5)
        if "z" in source.axes and form != "png":
            assert source.pixel_size.z == pytest.approx(2.5)
        if form == "ome-zarr":
            assert source.axes == axes
            assert len(source.levels) == facts.get("levels", 1)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    form=st.sampled_from(["ome-zarr", "tiff"]),
    shape=st.tuples(*[st.integers(1, 3)] * 3, st.integers(1, 60), st.integers(1, 60)),
    chunk=st.integers(12, 40),
    dtype=st.sampled_from(["u1", "i4", "f4"]),
)
def test_any_shape_any_chunk(tmp_path_factory, form, shape, chunk, dtype):
    path = tmp_path_factory.mktemp("any") / f"a{FORMAT_SUFFIX[form]}"
    truth = truth_of(shape, dtype)
    writer = create_writer(path, form, shape=shape, dtype=dtype, chunk=chunk)
    for box in cut(shape, (1, 2, 3, 25, 60)):
        writer.write(box, truth[box.slices])
    writer.finish()
    np.testing.assert_array_equal(everything(path), truth)


@pytest.mark.parametrize("form", FORMAT_SUFFIX)
class TestEveryWriter:
    shape = (1, 1, 1, 70, 90)

    def test_it_is_no_image_until_it_is_finished(self, tmp_path, form):
        writer = start(tmp_path, form, self.shape, "u1")
        writer.write(Box.whole(self.shape), truth_of(self.shape, "u1"))
        with pytest.raises(BadFile):
            open_image(tmp_path / f"a{FORMAT_SUFFIX[form]}")
        writer.finish()
        np.testing.assert_array_equal(everything(tmp_path / f"a{FORMAT_SUFFIX[form]}"), truth_of(self.shape, "u1"))

    def test_aborted_leaves_nothing(self, tmp_path, form):
        writer = start(tmp_path, form, self.shape, "u1")
        writer.write(Box.whole(self.shape), truth_of(self.shape, "u1"))
        writer.abort()
        assert list(tmp_path.iterdir()) == []

    def test_aborting_after_finishing_keeps_the_image(self, tmp_path, form):
        writer = start(tmp_path, form, self.shape, "u1")
        writer.finish()
        writer.abort()
        assert everything(tmp_path / f"a{FORMAT_SUFFIX[form]}").sum() == 0

    def test_stopped_and_resumed_is_the_same(self, tmp_path, form):
        truth = truth_of(self.shape, "u1")
        first, *rest = cut(self.shape)
        start(tmp_path, form, self.shape, "u1").write(first, truth[first.slices])
        for box in rest:
            start(tmp_path, form, self.shape, "u1", resume=True).write(box, truth[box.slices])
        start(tmp_path, form, self.shape, "u1", resume=True).finish()
        np.testing.assert_array_equal(everything(tmp_path / f"a{FORMAT_SUFFIX[form]}"), truth)

    def test_a_finished_image_can_be_resumed(self, tmp_path, form):
        truth = truth_of(self.shape, "u1")
        writer = start(tmp_path, form, self.shape, "u1")
        writer.write(Box.whole(self.shape), truth)
        writer.finish()
        again = start(tmp_path, form, self.shape, "u1", resume=True)
        box = Box((0, 0, 0, 3, 4), (1, 1, 1, 9, 9))
        again.write(box, np.zeros(box.shape, np.uint8))
        again.finish()
        truth[box.slices] = 0
        np.testing.assert_array_equal(everything(tmp_path / f"a{FORMAT_SUFFIX[form]}"), truth)

    def test_another_image_is_not_resumed(self, tmp_path, form):
        start(tmp_path, form, self.shape, "u1").finish()
        for shape, dtype in ((self.shape, "u2"), ((1, 1, 1, 70, 91), "u1")):
            with pytest.raises(BadInput, match="to go on with it takes"):
                start(tmp_path, form, shape, dtype, resume=True)
        assert everything(tmp_path / f"a{FORMAT_SUFFIX[form]}").shape == self.shape

    def test_starting_anew_forgets_a_stopped_draft(self, tmp_path, form):
        box = Box.whole(self.shape)
        start(tmp_path, form, self.shape, "u1").write(box, np.ones(self.shape, np.uint8))
        writer = start(tmp_path, form, self.shape, "u1", overwrite=True)
        writer.finish()
        assert everything(tmp_path / f"a{FORMAT_SUFFIX[form]}").sum() == 0

    def test_blocks_that_do_not_fit_are_refused(self, tmp_path, form):
        writer = start(tmp_path, form, self.shape, "u1")
        box = Box((0, 0, 0, 60, 80), (1, 1, 1, 70, 90))
        with pytest.raises(BadInput, match="not inside"):
            writer.write(Box((0, 0, 0, 60, 80), (1, 1, 1, 71, 90)), np.zeros((1, 1, 1, 11, 10), np.uint8))
        with pytest.raises(BadInput, match="must be the same"):
            writer.write(box, np.zeros((1, 1, 1, 10, 9), np.uint8))
        with pytest.raises(BadInput, match="int64 values do not fit"):
            writer.write(box, np.zeros(box.shape, np.int64))

    def test_a_folder_in_its_place_stays(self, tmp_path, form):
        (tmp_path / f"a{FORMAT_SUFFIX[form]}").mkdir()
        (tmp_path / f"a{FORMAT_SUFFIX[form]}" / "thesis.txt").write_text("years of work")
        with pytest.raises(BadInput):
            start(tmp_path, form, self.shape, "u1", overwrite=True)
        assert (tmp_path / f"a{FORMAT_SUFFIX[form]}" / "thesis.txt").read_text() == "years of work"

    @pytest.mark.parametrize(
        ("facts", "match"),
        [
            ({"shape": (70, 90)}, "5 sizes"),
            ({"shape": (1, 1, 1, 0, 90)}, "at least 1"),
            ({"axes": "xy"}, "axes 'xy'"),
            ({"axes": "yx", "shape": (1, 3, 1, 70, 90)}, "leave out c"),
            ({"channel_names": ["a", "b"]}, "2 channel names for 1"),
            ({"dtype": complex}, "complex128"),
            ({"version": "0.9"}, "OME-Zarr '0.9'"),
            ({"levels": 0}, "levels from 1"),
            ({"chunk": 0}, "at least 1"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, tmp_path, form, facts, match):
        plan = {"shape": self.shape, "dtype": "u1"} | facts
        with pytest.raises(BadInput, match=match):
            create_writer(tmp_path / f"a{FORMAT_SUFFIX[form]}", form, **plan)
        assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_named(tmp_path):
    with pytest.raises(NotFound, match=r"'tif'.*'tiff'"):
        create_writer(tmp_path / "a", "tif", shape=(1,) * 5, dtype="u1")


def test_an_ome_zarr_image_is_not_replaced_by_accident(tmp_path):
    start(tmp_path, "ome-zarr", (1, 1, 1, 4, 4), "u1").finish()
    with pytest.raises(BadInput, match="exists already"):
        start(tmp_path, "ome-zarr", (1, 1, 1, 9, 9), "u1")
    start(tmp_path, "ome-zarr", (1, 1, 1, 9, 9), "u1", overwrite=True).finish()
    assert everything(tmp_path / "a.ome.zarr").shape == (1, 1, 1, 9, 9)


@pytest.mark.parametrize(
    ("shape", "dtype", "match"),
    [
        ((2, 1, 1, 9, 9), "u1", "2 time points"),
        ((1, 1, 3, 9, 9), "u1", "3 slices"),
        ((1, 2, 1, 9, 9), "u1", "2 channels"),
        ((1, 1, 1, 9, 9), "f4", "float32"),
        ((1, 1, 1, 9, 9), "u4", "uint32"),
    ],
)
def test_png_says_what_would_hold_the_image(tmp_path, shape, dtype, match):
    with pytest.raises(BadInput, match=f"{match}.*ome-zarr or tiff"):
        create_writer(tmp_path / "a.png", "png", shape=shape, dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_a_huge_png_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TooLarge, match="ome-zarr or tiff"):
        create_writer(tmp_path / "a.png", "png", shape=(1, 1, 1, 50_000, 50_000), dtype="u1")
    assert list(tmp_path.iterdir()) == []


def test_ome_tiff_has_no_64_bit_stacks(tmp_path):
    with pytest.raises(BadInput, match="OME-TIFF has no int64"):
        create_writer(tmp_path / "a.tif", "tiff", shape=(1, 1, 3, 9, 9), dtype="i8")


def test_other_readers_see_the_same_tiff(tmp_path):
    stack, rgb = truth_of((2, 3, 4, 30, 41), "u2"), truth_of((1, 3, 1, 30, 41), "u1")
    for name, truth, facts in (("s.tif", stack, {"channel_names": ["r", "g", "b"]}), ("c.tif", rgb, {})):
        writer = create_writer(tmp_path / name, "tiff", shape=truth.shape, dtype=truth.dtype, pixel_size=SIZE, **facts)
        writer.write(Box.whole(truth.shape), truth)
        writer.finish()
    with tifffile.TiffFile(tmp_path / "s.tif") as tif:
        assert (tif.series[0].axes, tif.pages[0].is_tiled) == ("TCZYX", True)
        np.testing.assert_array_equal(tif.asarray(), stack)
        assert 'Name="g"' in tif.ome_metadata
        assert 'PhysicalSizeZ="2.5"' in tif.ome_metadata
    with tifffile.TiffFile(tmp_path / "c.tif") as tif:
        assert tif.pages[0].photometric == 2
        np.testing.assert_array_equal(tif.asarray(), rgb[0, :, 0].transpose(1, 2, 0))


def test_a_large_tiff_is_a_bigtiff_and_memory_follows_the_tile(tmp_path, monkeypatch):
    from fieldmark.images.writers import tiff

    monkeypatch.setattr(tiff, "_CLASSIC_BYTES", 1000)
    writer = start(tmp_path, "tiff", (1, 1, 1, 70, 90), "u1")
    writer.finish()
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_bigtiff


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("labels", [None, {0: "nothing", 3: "cell"}])
@pytest.mark.parametrize("size", [SIZE, PixelSize(), PixelSize(y=0.5, x=0.5)])
def test_the_metadata_is_valid(tmp_path, version, labels, size):
    from ome_zarr_models import open_ome_zarr, v04

    shape = (1, 2, 3, 33, 44) if labels is None else (1, 1, 3, 33, 44)
    names = None if labels else ["dapi", "actin"]
    writer = create_writer(
        tmp_path / "a.ome.zarr",
        "ome-zarr",
        shape=shape,
        dtype="u2",
        axes="czyx",
        pixel_size=size,
        channel_names=names,
        label_names=labels,
        version=version,
        levels=3,
    )
    writer.write(Box.whole(shape), truth_of(shape, "u2"))
    writer.finish()
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r")
    if version == "0.4":  # the model of a whole group of this version does not build in every release
        model = v04.image_label.ImageLabelAttrs if labels else v04.image.ImageAttrs
        model.model_validate(group.attrs.asdict())
        return
    found = open_ome_zarr(group)
    assert type(found).__name__ == ("ImageLabel" if labels else "Image")
    assert found.ome_zarr_version == version


def test_the_reference_reader_sees_the_same_image(tmp_path):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    truth = truth_of((1, 2, 3, 33, 44), "u2")
    for version in ("0.4", "0.5"):
        path = tmp_path / f"{version}.ome.zarr"
        writer = create_writer(
            path,
            "ome-zarr",
            shape=truth.shape,
            dtype="u2",
            axes="czyx",
            pixel_size=SIZE,
            version=version,
            channel_names=["dapi", "actin"],
            levels=2,
        )
        writer.write(Box.whole(truth.shape), truth)
        writer.finish()
        (node,) = list(Reader(parse_url(str(path)))())
        assert [level.shape for level in node.data] == [(2, 3, 33, 44), (2, 3, 17, 22)]
        np.testing.assert_array_equal(np.asarray(node.data[0]), truth[0])
        assert node.metadata["channel_names"] == ["dapi", "actin"]


def test_lower_levels_are_means_of_images_and_single_values_of_labels(tmp_path):
    truth = truth_of((1, 1, 1, 41, 55), "u1")
    for name, labels in (("mean", None), ("label", {})):
        writer = create_writer(
            tmp_path / name,
            "ome-zarr",
            shape=truth.shape,
            dtype="u1",
            axes="yx",
            levels=2,
            label_names=labels,
            chunk=16,
        )
        writer.write(Box.whole(truth.shape), truth)
        writer.finish()
    even = np.pad(truth[0, 0, 0], ((0, 1), (0, 1)), mode="edge").astype(float)
    mean = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    with open_image(tmp_path / "mean") as source:
        np.testing.assert_array_equal(source.read(Box.whole(source.levels[1]), 1)[0, 0, 0], np.rint(mean))
    with open_image(tmp_path / "label") as source:
        np.testing.assert_array_equal(source.read(Box.whole(source.levels[1]), 1), truth[..., ::2, ::2])


def test_an_averaged_level_lies_where_its_pixels_lie(tmp_path):
    writer = create_writer(
        tmp_path / "a", "ome-zarr", shape=(1, 1, 1, 64, 64), dtype="u1", axes="yx", levels=3, pixel_size=SIZE
    )
    writer.finish()
    meta = json.loads((tmp_path / "a/zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]
    for level, dataset in enumerate(meta["datasets"]):
        steps = {step["type"]: step[step["type"]] for step in dataset["coordinateTransformations"]}
        assert steps["scale"] == [0.5 * 2**level, 0.25 * 2**level]
        # The first pixel of a level is the mean of pixels 0 .. 2**level - 1.
        middle = np.mean(np.arange(2**level))
        assert steps.get("translation", [0, 0]) == [0.5 * middle, 0.25 * middle]


def test_unknown_stays_unknown_in_lower_levels(tmp_path):
    truth = np.ones((1, 1, 1, 4, 4), np.float32)
    truth[0, 0, 0, 0, 0] = np.nan
    writer = create_writer(tmp_path / "a", "ome-zarr", shape=truth.shape, dtype="f4", axes="yx", levels=2)
    writer.write(Box.whole(truth.shape), truth)
    writer.finish()
    with open_image(tmp_path / "a") as source:
        np.testing.assert_array_equal(source.read(Box.whole((1, 1, 1, 2, 2)), 1)[0, 0, 0], [[np.nan, 1], [1, 1]])


def test_killed_between_the_steps_of_making_it_resumes(tmp_path):
    zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="w", zarr_format=3)  # the group, but no array yet
    writer = start(tmp_path, "ome-zarr", (1, 1, 1, 9, 9), "u1", resume=True)
    writer.finish()
    assert everything(tmp_path / "a.ome.zarr").shape == (1, 1, 1, 9, 9)


def test_a_failed_finish_leaves_the_old_file_and_the_draft(tmp_path, monkeypatch):
    from fieldmark.images.writers.png import PngWriter

    shape = (1, 1, 1, 9, 9)
    writer = start(tmp_path, "png", shape, "u1")
    writer.finish()
    old = (tmp_path / "a.png").read_bytes()
    writer = start(tmp_path, "png", shape, "u1")
    writer.write(Box.whole(shape), np.full(shape, 7, np.uint8))

    def fail(self, source, part):
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(PngWriter, "_encode", fail)
        with pytest.raises(OSError, match="No space"):
            writer.finish()
    assert (tmp_path / "a.png").read_bytes() == old
    assert not list(tmp_path.glob("*.part"))
    start(tmp_path, "png", shape, "u1", resume=True).finish()
    assert (everything(tmp_path / "a.png") == 7).all()


@pytest.mark.parametrize("form", ["png", "tiff", "npy"])
def test_what_a_killed_process_left_is_removed_when_the_file_is_written_again(tmp_path, monkeypatch, form):
    """Killed in the middle of the file itself, which may be large."""
    shape = (1, 1, 1, 9, 9)
    (other := tmp_path / ".b.npy.999999999-1.part").write_bytes(b"of another file")
    writer = start(tmp_path, form, shape, "u1")
    writer.write(Box.whole(shape), np.full(shape, 7, np.uint8))

    def killed(self, source, part):
        part.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(type(writer), "_encode", killed)
        process = multiprocessing.get_context("fork").Process(target=writer.finish)
        process.start()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".a.*.part"))) == 1
    start(tmp_path, form, shape, "u1", resume=True).finish()
    (made,) = [path for path in tmp_path.iterdir() if path != other]
    assert (everything(made) == 7).all()
    assert other.exists()
