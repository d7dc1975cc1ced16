"""Files that would run code, or ask for all memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fieldmark.errors import BadFile
from fieldmark.models.libift import read_layers


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_matrix_of_objects_is_refused_and_not_run(tmp_path):
    np.save(tmp_path / "conv1-kernels.npy", np.array([[Trap(tmp_path / "ran")]], object), allow_pickle=True)
    with pytest.raises(BadFile, match=r"no .npy file of plain numbers"):
        read_layers(tmp_path, 1)
    assert not (tmp_path / "ran").exists()


def test_a_header_that_asks_for_all_memory_is_refused(tmp_path):
    head = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1000000000), }"
    text = head.encode().ljust(117) + b"\n"
    (tmp_path / "conv1-kernels.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(BadFile, match=r"conv1-kernels.npy"):
        read_layers(tmp_path, 1)


@pytest.mark.parametrize(
    "content",
    [np.zeros(3), np.zeros((0, 4)), np.zeros((2, 2), complex), np.array([["a"]]), np.full((9, 1), np.nan)],
)
def test_other_arrays_are_refused(tmp_path, content):
    np.save(tmp_path / "conv1-kernels.npy", content)
    with pytest.raises(BadFile, match=r"conv1-kernels.npy"):
        read_layers(tmp_path, 1)


def test_an_archive_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros((9, 1)))
    (tmp_path / "x.npz").rename(tmp_path / "conv1-kernels.npy")
    with pytest.raises(BadFile, match="archive"):
        read_layers(tmp_path, 1)
