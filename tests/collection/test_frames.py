"""Folders of frames: names, tables, and positions as images with all their axes."""

from __future__ import annotations

import csv
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile

from fieldmark.collection.frames import FrameRow, Wanted, frames_in, listings_in, table_csv, write_listings
from fieldmark.core.files import write_atomic
from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile, BadInput
from fieldmark.images import open_image
from fieldmark.images.png import encode_png
from fieldmark.images.source import channel_dtypes
from fieldmark.workbench import Workbench
from fieldmark.workbench.frames import write_table

TIMES, CHANNELS, SLICES, POSITIONS = (0, 2), (0, 1), (3, 4, 7), (1, 12)


def value(t: int, c: int, z: int, p: int) -> int:
    return 1000 * t + 100 * c + 10 * z + p


def plane(t: int, c: int, z: int, p: int, shape: tuple[int, int] = (5, 7)) -> np.ndarray:
    """Distinct values that tell y from x."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (value(t, c, z, p) + 5000 * y + 300 * x).astype(np.uint16)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "frames"
    for t, c, z, p in product(TIMES, CHANNELS, SLICES, POSITIONS):
        write_atomic(home / f"im_c{c:03d}_z{z:03d}_t{t:03d}_p{p:03d}.png", encode_png(plane(t, c, z, p)))
    return home


def added(tmp_path: Path, *paths: Path) -> Workbench:
    bench = Workbench.init(tmp_path / "project")
    report = bench.add(list(paths), layout="frames")
    assert not report.left_out, report.left_out
    return bench


def written(home: Path, *types: str, slices: int = 2) -> list[np.ndarray]:
    """Frames of channels of some types, up to the largest values that these hold; (z, y, x) of each channel."""
    rng, made = np.random.default_rng(4), []
    for c, name in enumerate(types):
        dtype = np.dtype(name)
        top = np.iinfo(dtype).max if dtype.kind in "ui" else 1
        stack = (rng.random((slices, 5, 7)) * top).astype(dtype)
        stack[:, 0, 0] = top
        home.mkdir(exist_ok=True)
        for z, pixels in enumerate(stack):
            tifffile.imwrite(home / f"im_c{c:03d}_z{z:03d}_t000_p000.tif", pixels)
        made.append(stack)
    return made


@pytest.mark.parametrize(
    ("types", "common"),
    [
        (("uint16", "uint8"), "uint16"),
        (("uint8", "uint16", "float32"), "float32"),
        (("uint32", "float32"), "float64"),
        (("uint16", "int16"), "int32"),
    ],
)
def test_channels_of_several_types_are_read_without_loss(tmp_path, types, common):
    stacks = written(tmp_path / "mixed", *types)
    with added(tmp_path, tmp_path / "mixed") as bench:
        (record,) = bench.collection.all()
    assert record.dtype == common
    with open_image(record.path) as source:
        assert tuple(map(str, channel_dtypes(source))) == types
        found = source.read(Box.whole(source.shape))[0]
    assert found.dtype == common
    for channel, stack in zip(found, stacks, strict=True):
        assert (channel.astype(object) == stack.astype(object)).all(), "every value is exactly the file's"


@pytest.mark.parametrize("types", [("uint64", "int64"), ("int64", "float64"), ("uint64", "float32")])
def test_channels_that_no_type_holds_are_refused(tmp_path, types):
    written(tmp_path / "mixed", *types)
    with Workbench.init(tmp_path / "project") as bench:
        report = bench.add([tmp_path / "mixed"], layout="frames")
    ((_, why),) = report.left_out
    assert f"its channels are channel 0 {types[0]}, channel 1 {types[1]}: no type holds all" in why


def test_frames_of_one_channel_have_one_type(tmp_path):
    written(tmp_path / "mixed", "uint8")
    tifffile.imwrite(tmp_path / "mixed" / "im_c000_z001_t000_p000.tif", np.zeros((5, 7), np.uint16))
    with Workbench.init(tmp_path / "project") as bench:
        ((_, why),) = bench.add([tmp_path / "mixed"], layout="frames").left_out
    assert "im_c000_z001_t000_p000.tif is 7 x 5 uint16, other frames are 7 x 5 uint8" in why


def test_columns_of_frames_meta_are_columns_of_positions(folder, tmp_path):
    """What is the same for all frames of a position is the position's; the table that is written keeps it."""
    lines = list(csv.DictReader(table_csv(frames_in(folder)).decode().splitlines()))
    for number, line in enumerate(lines):
        line |= {"patient": "a" if line["pos_idx"] == "1" else "", "zscore_median": str(number)}
    with (tmp_path / "frames_meta.csv").open("w", newline="") as text:
        rows = csv.DictWriter(text, list(lines[0]))
        rows.writeheader()
        rows.writerows(lines)
    with added(tmp_path, tmp_path / "frames_meta.csv") as bench:
        first, second = bench.collection.all()
    where = {"dir_name": str(folder.resolve()), "zscore_median": None}
    assert first.columns == {**where, "pos_idx": "1", "patient": "a"}
    assert second.columns == {**where, "pos_idx": "12"}
    again = list(csv.DictReader(table_csv(frames_in(tmp_path / "frames_meta.csv")).decode().splitlines()))
    assert again == [line | {"patient": line["patient"]} for line in lines]


def test_positions_are_images_with_every_plane_where_it_belongs(folder, tmp_path):
    with added(tmp_path, folder) as bench:
        records = bench.collection.all()
        assert [record.name for record in records] == ["p001", "p012"]
        assert [record.group for record in records] == ["p001", "p012"]
        for record, p in zip(records, POSITIONS, strict=True):
            assert record.shape == (2, 2, 3, 5, 7)
            assert record.axes == "tczyx"
            with open_image(record.path) as source:
                found = source.read(Box((0,) * 5, source.shape))
                part = source.read(Box((1, 0, 1, 2, 3), (2, 2, 3, 5, 6)))
            for (i, t), (j, c), (k, z) in product(*map(enumerate, (TIMES, CHANNELS, SLICES))):
                assert np.array_equal(found[i, j, k], plane(t, c, z, p))
            assert np.array_equal(part, found[1:2, :, 1:3, 2:5, 3:6])
    assert sorted(path.suffix for path in folder.iterdir()) == [".png"] * 24, "the user's folder is only read"


def test_frames_that_moved_are_the_same_images(folder, tmp_path):
    with added(tmp_path, folder) as bench:
        before = bench.collection.all()
        shutil.move(folder, tmp_path / "away" / "frames")
        with pytest.raises(BadFile, match="not there any more"):
            open_image(before[0].path)
        report = bench.add([tmp_path / "away" / "frames"], layout="frames")
        assert not report.added
        assert len(report.known) == 2
        with open_image(before[0].path) as source:
            assert source.read(Box((0,) * 5, (1,) * 5)).item() == value(0, 0, 3, 1)


def test_a_frame_that_changed_is_refused(folder, tmp_path):
    with added(tmp_path, folder) as bench:
        record = bench.collection.all()[0]
        write_atomic(folder / "im_c001_z004_t002_p001.png", encode_png(np.zeros((50, 70), np.uint16)))
        with open_image(record.path) as source, pytest.raises(BadFile, match=r"had .* bytes when it was added"):
            source.read(Box((0,) * 5, source.shape))


def test_a_position_that_lacks_a_frame_is_left_out_and_named(folder, tmp_path):
    (folder / "im_c001_z004_t002_p012.png").unlink()
    with Workbench.init(tmp_path / "project") as bench:
        report = bench.add([folder], layout="frames")
    assert [record.name for record in report.added] == ["p001"]
    assert report.left_out == [(f"{folder}: p012", "the frame of time 2, channel 1, slice 4 is missing (1 are).")]


@pytest.mark.parametrize(
    ("pixels", "why"),
    [
        (np.zeros((5, 8), np.uint16), "8 x 5 uint16, other frames are 7 x 5 uint16"),
        (np.zeros((5, 7, 3), np.uint8), "3"),
    ],
)
def test_a_frame_unlike_the_others_is_named(folder, tmp_path, pixels, why):
    write_atomic(folder / "im_c001_z004_t002_p012.png", encode_png(pixels))
    with Workbench.init(tmp_path / "project") as bench:
        report = bench.add([folder], layout="frames")
    assert [record.name for record in report.added] == ["p001"]
    ((_, told),) = report.left_out
    assert "im_c001_z004_t002_p012.png" in told
    assert why in told


def test_names_of_other_programs(tmp_path):
    home = tmp_path / "sms"
    for name, p in product(("phase", "GFP_2"), (0, 3)):
        write_atomic(home / f"img_{name}_t005_p{p:03d}_z001_extra.tif", b"")
    rows = frames_in(home).rows
    assert [(row.channel_idx, row.channel_name) for row in rows] == [(0, "GFP_2"), (1, "phase")] * 2
    assert {(row.time_idx, row.slice_idx) for row in rows} == {(5, 1)}
    assert [row.pos_idx for row in rows] == [0, 0, 3, 3]


def test_a_channel_has_a_name_or_a_number(tmp_path):
    """Together, nobody would say which number a name has: both could become channel 0."""
    for name in ("img_GFP_t000_p000_z001.tif", "im_c000_z000_t000_p000.tif"):
        write_atomic(tmp_path / "x" / name, b"")
    with pytest.raises(
        BadInput, match=r"im_c000_z000_t000_p000\.tif has a number for its channel, and img_GFP.* a name"
    ):
        frames_in(tmp_path / "x")
    assert [row.file_name for row in frames_in(tmp_path / "x", names="sms").rows] == ["img_GFP_t000_p000_z001.tif"]


def test_a_channel_may_have_its_name_where_its_number_stands(tmp_path):
    for name, p in product(("cGFP", "c405nm-2", "Cphase"), (0, 3)):
        write_atomic(tmp_path / "x" / f"im_{name}_z002_t005_p{p:03d}.png", b"")
    rows = frames_in(tmp_path / "x").rows
    assert [(row.channel_idx, row.channel_name) for row in rows] == [(0, "405nm-2"), (1, "GFP"), (2, "phase")] * 2
    assert {(row.time_idx, row.slice_idx) for row in rows} == {(5, 2)}
    assert [row.pos_idx for row in rows] == [0] * 3 + [3] * 3
    write_atomic(tmp_path / "x" / "im_c000_z002_t005_p000.png", b"")
    with pytest.raises(BadInput, match=r"im_c000_z002_t005_p000\.png has a number for its channel, and im_c.* a name"):
        frames_in(tmp_path / "x")


def test_frames_whose_names_lack_a_number_are_told_how_they_were_read(tmp_path):
    for well in ("A1", "B1"):
        write_atomic(tmp_path / "x" / f"im_c000_z001_t002_p{well}.png", b"")
    ((name, why),) = frames_in(tmp_path / "x").left_out
    assert name == "im_c000_z001_t002_pB1.png"
    assert "channel 0, slice 1, time 2 and position 0, and so is im_c000_z001_t002_pA1.png" in why
    assert "A number that a name lacks is 0" in why


def test_indices_that_were_written_as_fractions(folder):
    text = table_csv(frames_in(folder)).decode().replace(",12,", ",12.0,")
    (folder / "frames_meta.csv").write_text(text)
    assert {row.pos_idx for row in frames_in(folder).rows} == {1, 12}


def test_numbers_in_any_order(tmp_path):
    write_atomic(tmp_path / "x" / "A7-11-2-30.png", b"")
    assert frames_in(tmp_path / "x", order="ptzc").rows == [FrameRow(30, 2, 11, 7, "A7-11-2-30.png", "channel 30")]
    with pytest.raises(BadInput, match="names c, z, t and p once each"):
        frames_in(tmp_path / "x", order="cztt")


def test_the_table_is_as_microdl_writes_it_and_is_read_again(folder):
    table = frames_in(folder)
    lines = list(csv.reader(table_csv(table).decode().splitlines()))
    assert lines[0] == ["", "channel_idx", "slice_idx", "time_idx", "channel_name", "file_name", "pos_idx", "dir_name"]
    assert lines[1] == ["0", "0", "3", "0", "channel 0", "im_c000_z003_t000_p001.png", "1", str(folder)]
    write_atomic(folder.parent / "meta.csv", table_csv(table))
    assert frames_in(folder.parent / "meta.csv").rows == table.rows
    # the folder's own table is believed, and may say other than its names
    renamed = table_csv(table).replace(b",1,/", b",41,/")
    (folder / "frames_meta.csv").write_bytes(renamed)
    assert sorted({row.pos_idx for row in frames_in(folder).rows}) == [12, 41]


def test_what_global_metadata_says_otherwise_is_told(folder):
    (folder / "global_metadata.csv").write_text("nbr_channels,nbr_slices,nbr_positions\n2,4,2\n")
    assert frames_in(folder).notes == [f"{folder / 'global_metadata.csv'} says 4 slices; there are 3."]


def test_some_positions_and_slices(folder, tmp_path):
    plan = write_listings(frames_in(folder), tmp_path / "lists", Wanted(positions=(12,), slices=(3, 7), times=(2,)))
    (image,) = plan.images
    with open_image(image.path) as source:
        assert source.shape == (1, 2, 2, 5, 7)
        assert source.read(Box((0, 1, 1, 0, 0), (1, 2, 2, 1, 1))).item() == value(2, 1, 7, 12)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a,b\n1,2\n", "no column"),
        ("channel_idx,slice_idx,time_idx,pos_idx,file_name\n0,x,0,0,a.png\n", "line 2: slice_idx is 'x'"),
        ("channel_idx,slice_idx,time_idx,pos_idx,file_name\n0,inf,0,0,a.png\n", "line 2: slice_idx is 'inf'"),
        ("channel_idx,slice_idx,time_idx,pos_idx,file_name\n0,0,0,-1,a.png\n", "line 2: pos_idx is '-1'"),
        ("channel_idx,slice_idx,time_idx,pos_idx,file_name\n0,0,1.5,0,a.png\n", "line 2: time_idx is '1.5'"),
        ("channel_idx,slice_idx,time_idx,pos_idx,file_name\n0,0,0,0,../a.png\n", "no path inside"),
        ("channel_idx,slice_idx,time_idx,pos_idx,file_name\n0,0,0,0,.\n", "no path inside"),
        ("channel_idx,slice_idx,time_idx,pos_idx,file_name\n0,0,0,0,gone.png\n", "no such file"),
        ("", "no row"),
    ],
)
def test_a_bad_table_says_what_is_wrong(tmp_path, text, why):
    (tmp_path / "frames_meta.csv").write_text(text)
    with pytest.raises(BadFile, match=why):
        frames_in(tmp_path)


@pytest.mark.parametrize(
    "spoil", [b"# fieldmark frames 1\n", b"# fieldmark frames 1\nchannel_idx\n1\n", b"# fieldmark frames"]
)
def test_a_damaged_listing_is_refused(folder, tmp_path, spoil):
    with added(tmp_path, folder) as bench:
        path = bench.collection.all()[0].path
    path.write_bytes(spoil)
    with pytest.raises(BadFile, match="damaged"):
        open_image(path)


def test_a_listing_that_leads_out_is_refused(folder, tmp_path):
    with added(tmp_path, folder) as bench:
        path = bench.collection.all()[0].path
    path.write_bytes(path.read_bytes().replace(b"im_c000_z003_t000", b"../im_c000_z003_t000", 1))
    with pytest.raises(BadFile, match="leads out"):
        open_image(path)


def test_positions_of_a_plate_are_images(tmp_path):
    """HCS plates of OME-Zarr need no layout of their own: each position is an image, named by its well."""
    import zarr

    plate = zarr.open_group(tmp_path / "plate.zarr", mode="w", zarr_format=2)
    plate.attrs["plate"] = {"wells": [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}], "version": "0.4"}
    for well, position in (("A/1", 0), ("A/1", 1), ("B/2", 0)):
        group = plate.require_group(f"{well}/{position}")
        group.create_array("0", data=np.full((1, 2, 1, 4, 6), position, np.uint8), chunks=(1, 1, 1, 4, 6))
        axes = [{"name": n, "type": k} for n, k in zip("tczyx", ("time", "channel", *["space"] * 3), strict=True)]
        scale = [{"type": "scale", "scale": [1.0] * 5}]
        group.attrs["multiscales"] = [
            {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
        ]
    with Workbench.init(tmp_path / "project") as bench:
        report = bench.add([tmp_path / "plate.zarr"], group_by=r"^(.*)/\d+$")
        assert not report.left_out
        assert [(r.name, r.group, r.shape) for r in bench.collection.all()] == [
            ("A/1/0", "A/1", (1, 2, 1, 4, 6)),
            ("A/1/1", "A/1", (1, 2, 1, 4, 6)),
            ("B/2/0", "B/2", (1, 2, 1, 4, 6)),
        ]


def test_the_command_never_writes_into_the_users_folder(folder, tmp_path, capsys, monkeypatch):
    from fieldmark.faces.cli.main import main

    def status(*args: str) -> int:
        with pytest.raises(SystemExit) as end:
            main(args)
        return end.value.code

    Workbench.init(tmp_path / "project").close()
    monkeypatch.chdir(tmp_path / "project")
    assert status("frames", str(folder)) == 0
    out = capsys.readouterr().out
    assert "24 frames (2 positions, 2 times, 2 channels, 3 slices)" in out
    written = tmp_path / "project" / "frames" / "frames" / "frames_meta.csv"
    assert written.is_file()
    assert status("frames", str(folder), "--out", str(folder)) == 1
    assert not (folder / "frames_meta.csv").exists()
    own = folder / "frames_meta.csv"
    own.write_bytes(written.read_bytes() + b"\n")
    assert status("frames", str(own), "--out", str(folder)) == 1, "nor by the way of its table"
    assert status("frames", str(written), "--out", str(folder / "other.csv")) == 1
    assert own.read_bytes() == written.read_bytes() + b"\n"
    assert sorted(path.suffix for path in folder.iterdir()) == [".csv", *[".png"] * 24]
    assert status("frames", str(written)) == 1
    assert "is the table that is read" in capsys.readouterr().err
    own.unlink()
    assert status("add", "--layout", "frames", str(written)) == 0


def test_tables_of_folders_of_one_name_lie_beside_each_other(folder, tmp_path):
    away = tmp_path / "away" / "frames"
    shutil.copytree(folder, away)
    project = tmp_path / "project"
    Workbench.init(project).close()
    first, _ = write_table(folder, None, project=project)
    edited = first.read_bytes().replace(b"channel 0", b"phase")
    first.write_bytes(edited)
    second, _ = write_table(away, None, project=project)
    assert second != first
    assert first.read_bytes() == edited
    assert write_table(away, None, project=project)[0] == second
    assert write_table(folder, None, project=project)[0] == first


def test_tiff_frames_keep_their_pixel_size(tmp_path):
    home = tmp_path / "frames"
    home.mkdir()
    for z in range(2):
        pixels = plane(0, 0, z, 0)
        tifffile.imwrite(
            home / f"im_c000_z{z:03d}_t000_p000.tif", pixels, resolution=(2e4, 2e4), resolutionunit="CENTIMETER"
        )
    plan = write_listings(frames_in(home), tmp_path / "lists")
    with open_image(plan.images[0].path) as source:
        assert source.pixel_size.x == pytest.approx(0.5)
        assert source.axes == "zyx"


def test_listings_with_names_of_their_own_are_found_where_they_lie(folder, tmp_path):
    """As fields of a plate have; below their place only."""
    names = {1: "A/1/0", 12: "B/2"}
    plan = write_listings(frames_in(folder), tmp_path / "lists", names=names)
    home = plan.images[0].path.parents[2]
    assert [image.name for image in plan.images] == [image.group for image in plan.images] == ["A/1/0", "B/2"]
    assert listings_in(home) == [home / "A/1/0.frames", home / "B/2.frames"]
    assert listings_in(tmp_path) == listings_in(tmp_path / "lists") == []
    with (
        open_image(home / "A/1/0.frames") as source,
        open_image(write_listings(frames_in(folder), tmp_path / "own").images[0].path) as own,
    ):
        assert np.array_equal(source.read(Box.whole(source.shape)), own.read(Box.whole(own.shape)))
