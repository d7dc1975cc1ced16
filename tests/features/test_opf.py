"""libIFT's data sets, against archives packed by hand."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.errors import BadFile, BadInput, TooLarge
from fieldmark.features.opf import SUPERVISED, TEST, TRAIN, read_opf, write_opf

FEAT = np.array([[0.5, -1.0], [2.0, 3.25], [1e-3, 7.0]], np.float32)

MEMBERS = {
    "version.data": b"1\n",
    "feat.data": b"3,2\n" + struct.pack("<6f", 0.5, -1.0, 2.0, 3.25, 1e-3, 7.0),
    "alpha.data": b"2,1\n" + struct.pack("<2f", 1, 1),
    "true_label.data": b"3,1\n" + struct.pack("<3i", 1, 2, 2),
    "label.data": b"3,1\n" + struct.pack("<3i", 0, 0, 0),
    "id.data": b"3,1\n" + struct.pack("<3i", 0, 1, 2),
    "group.data": b"3,1\n" + struct.pack("<3i", 0, 0, 0),
    "status.data": b"3,1\n" + bytes([2, 2, 2]),
    "n_checked.data": b"3,1\n" + bytes(12),
    "is_supervised.data": b"3,1\n" + bytes(3),
    "is_label_propagated.data": b"3,1\n" + bytes(3),
    "weight.data": b"3,1\n" + bytes(12),
    "n_classes.data": b"1,1\n" + struct.pack("<i", 2),
    "function_number.data": b"1,1\n" + struct.pack("<i", 1),
    "n_labels.data": b"1,1\n" + struct.pack("<i", 0),
    "n_train_samples.data": b"1,1\n" + struct.pack("<i", 0),
    "ref_data_type.data": b"1,1\n" + struct.pack("<i", 0),
}


def packed(members=MEMBERS, compression=zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def saved(folder, data: bytes):
    (folder / "a.zip").write_bytes(data)
    return folder / "a.zip"


def test_members_are_those_made_by_hand(tmp_path):
    write_opf(tmp_path / "a.zip", FEAT, np.array([1, 2, 2]))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == MEMBERS
        assert archive.namelist()[:2] == ["version.data", "feat.data"]


def test_equal_data_are_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_opf(tmp_path / f"{name}.zip", FEAT, np.array([1, 2, 2]), names=["x.png", "y.png", "z.png"])
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_made_by_hand_is_read(tmp_path, compression):
    found = read_opf(saved(tmp_path, packed(compression=compression)))
    np.testing.assert_array_equal(found.feat, FEAT)
    assert found.true_label.tolist() == [1, 2, 2]
    assert found.status.tolist() == [TEST] * 3
    assert (found.classes, found.function, found.names, found.projection) == (2, 1, (), None)


def test_everything_that_is_written_is_read_back(tmp_path):
    status = np.array([TRAIN | SUPERVISED, TRAIN, TEST])
    write_opf(
        tmp_path / "a.zip",
        FEAT,
        np.array([3, 1, 2]),
        label=np.array([3, 1, 1]),
        ids=np.array([9, 8, 7]),
        group=np.array([1, 2, 2]),
        status=status,
        weight=np.array([0.5, 0.25, 0]),
        classes=5,
        names=["a.png", "sub/b.png", "ü.png"],
        projection=np.eye(3)[:, :2],
    )
    found = read_opf(tmp_path / "a.zip")
    assert (found.label.tolist(), found.id.tolist(), found.group.tolist()) == ([3, 1, 1], [9, 8, 7], [1, 2, 2])
    assert (found.status.tolist(), found.weight.tolist()) == (status.tolist(), [0.5, 0.25, 0])
    assert (found.classes, found.names) == (5, ("a.png", "sub/b.png", "ü.png"))
    np.testing.assert_array_equal(found.projection, np.eye(3)[:, :2])
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.read("n_train_samples.data") == b"1,1\n\2\0\0\0"
        assert archive.read("is_supervised.data") == b"3,1\n\1\0\0"
        assert archive.read("ref_data_type.data") == b"1,1\n\4\0\0\0"
        assert archive.read("n_labels.data") == b"1,1\n\2\0\0\0"


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_the_last_name_may_end_its_line_or_not(tmp_path, end):
    found = read_opf(saved(tmp_path, packed(MEMBERS | {"ref_data.csv": b"1_1.png\n\n2_2.png" + end})))
    assert found.names == ("1_1.png", "", "2_2.png")


def test_features_alone_are_a_data_set(tmp_path):
    found = read_opf(saved(tmp_path, packed({name: MEMBERS[name] for name in ("version.data", "feat.data")})))
    assert found.true_label.tolist() == [0, 0, 0]
    assert found.alpha.tolist() == [1, 1]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 1000))
def test_any_sizes_go_there_and_back(tmp_path_factory, many, features, seed):
    rng = np.random.default_rng(seed)
    feat, labels = rng.normal(size=(many, features)).astype(np.float32), rng.integers(0, 9, many)
    path = tmp_path_factory.mktemp("opf") / "a.zip"
    write_opf(path, feat, labels)
    found = read_opf(path)
    np.testing.assert_array_equal(found.feat, feat)
    np.testing.assert_array_equal(found.true_label, labels)


@pytest.mark.parametrize(
    ("feat", "labels", "facts", "message"),
    [
        (FEAT[0], [1, 2, 2], {}, r"give \(N, F\)"),
        (FEAT[:0], [], {}, "at least one"),
        (FEAT, [1, 2], {}, r"give \(3,\)"),
        (FEAT, [1, 2, 1 << 40], {}, "the format holds int32"),
        (FEAT, [1, 2, 2], {"status": 0x100}, "the format holds uint8"),
        (FEAT, [1, 2, 2], {"names": ["a"]}, "one line for each"),
        (FEAT, [1, 2, 2], {"names": ["a", "b\nc", "d"]}, "one line for each"),
        (FEAT, [1, 2, 2], {"projection": np.zeros((3, 3))}, r"give \(3, 2\)"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, feat, labels, facts, message):
    with pytest.raises(BadInput, match=message):
        write_opf(tmp_path / "a.zip", feat, np.array(labels), **facts)
    assert not list(tmp_path.iterdir())


def changed(**members: bytes | None) -> bytes:
    new = MEMBERS | {f"{name}.data": data for name, data in members.items()}
    return packed({name: data for name, data in new.items() if data is not None})


def lying(name: bytes, size: int, compressed: int | None = None) -> bytes:
    """The central directory claims another size for one member."""
    data = bytearray(packed(compression=zipfile.ZIP_STORED))
    at = data.rindex(name) - 46
    if compressed is not None:
        struct.pack_into("<I", data, at + 20, compressed)
    struct.pack_into("<I", data, at + 24, size)
    return bytes(data)


def bomb() -> bytes:
    return packed(MEMBERS | {"feat.data": b"250000000,1\n" + bytes(10**9 // 200)})


def twice() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("version.data", b"1")
        archive.writestr("Version.data", b"1")
    return out.getvalue().replace(b"Version", b"version")


def encrypted() -> bytes:
    data = bytearray(packed())
    data[data.rindex(b"feat.data") - 46 + 8] |= 1
    return bytes(data)


BAD = {
    "no archive": (b"words", "no zip archive"),
    "empty": (b"", "no zip archive"),
    "cut": (packed()[:-30], "no zip archive"),
    "no version": (changed(version=None), "no version.data"),
    "the older kind": (packed({"info.data": b"\1"}), "the older kind"),
    "another version": (changed(version=b"7"), "its version is b'7'"),
    "no features": (changed(feat=None), "no features"),
    "empty features": (changed(feat=b"0,2\n"), "no features"),
    "more rows": (changed(feat=b"4,2\n" + bytes(24)), "declares 4 x 2"),
    "10 ** 12 rows": (changed(feat=b"1000000000000,2\n" + bytes(24)), "declares 1000000000000 x 2"),
    "no header": (changed(feat=bytes(24)), "must be `rows,columns`"),
    "an endless header": (changed(feat=b"1" * 500 + b",2\n"), "must be `rows,columns`"),
    "a negative size": (changed(feat=b"-3,2\n" + bytes(24)), "must be `rows,columns`"),
    "a word": (changed(feat=b"x,2\n" + bytes(24)), "must be `rows,columns`"),
    "labels of others": (changed(true_label=b"2,1\n" + bytes(8)), "its true_label.data has"),
    "a stored member that claims more": (lying(b"feat.data", 2**31 - 5), "larger than its content"),
    "a member larger than the file": (lying(b"feat.data", 2**31 - 5, 2**31 - 5), "larger than its content"),
    "two of a name": (twice(), "no data set"),
    "a thousand members": (packed({f"{n}": b"" for n in range(1000)}), "no data set"),
    "encrypted": (encrypted(), "encrypted"),
    "a flipped byte": (packed(compression=zipfile.ZIP_STORED).replace(struct.pack("<f", 7), b"abcd"), "damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_hostile_archives_are_refused_by_name(tmp_path, name):
    data, message = BAD[name]
    path = saved(tmp_path, data)
    with pytest.raises(BadFile, match=message) as caught:
        read_opf(path, shown="shown")
    assert str(caught.value).startswith("shown: ")
    assert len(str(caught.value)) < 400
    assert list(tmp_path.iterdir()) == [path]


def test_a_bomb_is_refused_before_it_goes_off(tmp_path):
    with pytest.raises(TooLarge, match="the limit is 1,000,000"):
        read_opf(saved(tmp_path, bomb()), max_bytes=10**6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_changed_byte_is_read_or_refused(tmp_path_factory, data):
    content = bytearray(packed())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    try:
        read_opf(saved(tmp_path_factory.mktemp("opf"), bytes(content)))
    except BadFile:
        return
