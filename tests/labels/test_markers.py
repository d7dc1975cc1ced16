"""Marker files: the format read and written, and hostile ones refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.errors import BadFile
from fieldmark.labels.exchange.markers import read_markers, write_markers


def saved(folder: Path, text: str | bytes) -> Path:
    path = folder / "cell-seeds.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_plane_is_read(tmp_path: Path) -> None:
    found = read_markers(saved(tmp_path, "3 40 30\n5 2 -1 0\n6 2 7 1\n39 29 -1 1\n"))
    assert found.size == (40, 30)
    assert found.places.tolist() == [[0, 2, 5], [0, 2, 6], [0, 29, 39]]  # z, y, x
    assert found.ids.tolist() == [-1, 7, -1]
    assert found.labels.tolist() == [0, 1, 1]
    assert found.convention == "counts labels from 0"
    assert found.twofold == 0


def test_a_volume_is_read(tmp_path: Path) -> None:
    found = read_markers(saved(tmp_path, "1 40 30 9\r\n5 2 8 -1 2\r\n\r\n"))
    assert found.size == (40, 30, 9)
    assert found.places.tolist() == [[8, 2, 5]]
    assert found.convention == "counts labels from 1"


def test_pixels_with_two_labels_are_counted(tmp_path: Path) -> None:
    text = "5 40 30\n5 2 1 1\n5 2 1 2\n5 2 1 2\n6 2 1 1\n6 2 2 1\n"
    assert read_markers(saved(tmp_path, text)).twofold == 1


def test_a_byte_order_mark_and_no_pixel_are_no_harm(tmp_path: Path) -> None:
    assert len(read_markers(saved(tmp_path, b"\xef\xbb\xbf0 40 30\n")).places) == 0


HOSTILE = {
    "empty": ("", "it is empty"),
    "first line too short": ("3 40\n", "first line is '3 40'"),
    "first line too long": ("1 2 3 4 5\n", "must be `count width height`"),
    "too few": ("3 40 30\n1 1 -1 0\n", "promises 3 marked pixels, and 1 lines follow"),
    "too many": ("1 40 30\n1 1 -1 0\n2 2 -1 0\n", "promises 1 marked pixels, and 2 lines follow"),
    "huge count": ("999999999999999 40 30\n1 1 -1 0\n", "first line declares"),
    "a count beyond integers": (f"{'9' * 400} 40 30\n", "too large a number"),
    "negative count": ("-1 40 30\n", "first line declares -1"),
    "huge size": ("1 40 99999999999999999999\n1 1 -1 0\n", "too large a number"),
    "no size": ("1 0 30\n1 1 -1 0\n", "first line declares"),
    "outside on the right": ("1 40 30\n40 1 -1 0\n", r"line 2 marks 40, 1 \(x, y\), outside the image of 40 x 30"),
    "outside below": ("2 40 30\n1 1 -1 0\n1 30 -1 0\n", r"line 3 marks 1, 30"),
    "negative place": ("1 40 30\n-1 1 -1 0\n", "marks -1, 1"),
    "outside in depth": ("1 40 30 3\n1 1 3 -1 0\n", r"marks 1, 1, 3 \(x, y, z\)"),
    "negative label": ("1 40 30\n1 1 -1 -2\n", "label -2"),
    "fraction": ("1 40 30\n1.5 1 -1 0\n", r"line 2, '1.5 1 -1 0', holds something that is no whole number"),
    "word": ("1 40 30\none 1 -1 0\n", "no whole number"),
    "not a number": ("1 40 30\nnan 1 -1 0\n", "no whole number"),
    "underscore": ("1 40 30\n1_0 1 -1 0\n", "no whole number"),
    "a lone sign": ("1 40 30\n- 1 -1 0\n", "no whole number"),
    "sign inside": ("1 40 30\n1-2 1 -1 0\n", "no whole number"),
    "missing column": ("2 40 30\n1 1 -1\n1 1 -1 0 0\n", "line 2 is '1 1 -1'; it must hold 4"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "no whole number"),
    "foreign digits": ("1 40 30\n\u0661 1 -1 0\n".encode(), "no whole number"),
    "zero bytes": (b"1 40 30\n\0 1 -1 0\n", "no whole number"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_by_name(name: str, tmp_path: Path) -> None:
    content, message = HOSTILE[name]
    with pytest.raises(BadFile, match=message) as caught:
        read_markers(saved(tmp_path, content), "shown/cell-seeds.txt")
    assert str(caught.value).startswith("shown/cell-seeds.txt: ")
    assert len(str(caught.value)) < 400


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="cannot be read"):
        read_markers(tmp_path / "none.txt")


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = saved(tmp_path_factory.mktemp("bytes"), content)
    try:
        found = read_markers(path)
    except BadFile:
        return
    assert len(found.places) == len(found.labels)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 29), st.integers(0, 39), st.integers(-1, 9), st.integers(0, 5)),
        max_size=20,
    ),
    volume=st.booleans(),
)
def test_what_is_written_is_read_back(
    rows: list[tuple[int, ...]], volume: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = np.array(rows, dtype=np.int64).reshape(-1, 5)
    table[:, 0] *= volume
    size = (40, 30, 5) if volume else (40, 30)
    path = saved(tmp_path_factory.mktemp("rows"), write_markers(size, table[:, :3], table[:, 3], table[:, 4]))
    found = read_markers(path)
    assert found.size == size
    assert (found.places == table[:, :3]).all()
    assert (found.ids == table[:, 3]).all()
    assert (found.labels == table[:, 4]).all()
