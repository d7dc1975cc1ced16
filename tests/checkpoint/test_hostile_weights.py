"""Weights that are not safetensors: pickles above all, which run code when they are read."""

from __future__ import annotations

import json
import pickle
import struct
from hashlib import sha256

import pytest

from fieldmark.checkpoint.bundle import read_bundle
from fieldmark.errors import BadFile


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def tensors(header: dict, data: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        b"PK\x03\x04" + b"\0" * 100,
        tensors({}, length=2**62),
        tensors({"w": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4]}}, b"\0" * 4),
        tensors({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**40]}}, b"\0" * 4),
        tensors({"w": {"dtype": "object", "shape": [1], "data_offsets": [0, 4]}}, b"\0" * 4),
        tensors({"w": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}, b"\0" * 4),
        tensors({"w": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}, b"\0" * 4),
    ],
)
def test_what_is_no_plain_tensor_file_is_refused(tmp_path, content):
    _bundle(tmp_path, content)
    with pytest.raises(BadFile, match=r"weights-x\.safetensors: not a safetensors file"):
        read_bundle(tmp_path, "model.json")


def test_a_pickle_that_was_renamed_is_refused_and_not_run(tmp_path):
    _bundle(tmp_path, pickle.dumps(Bomb(tmp_path / "it-ran")))
    with pytest.raises(BadFile, match="not a safetensors file"):
        read_bundle(tmp_path, "model.json")
    assert not (tmp_path / "it-ran").exists()


def _bundle(folder, content):
    (folder / "weights-x.safetensors").write_bytes(content)
    digest = sha256(content).hexdigest()
    (folder / "model.json").write_text(json.dumps({"weights": "weights-x.safetensors", "weights_sha256": digest}))
