"""Chunks of strangers: no growth, no reading past the end, no way out; and what honest writers make passes."""

from __future__ import annotations

import gzip
import os
import zlib

import imagecodecs
import numcodecs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.images.readers.zarr_guard import InsideStore, check_growth

ENCODE = {
    "zstd": lambda data: bytes(numcodecs.Zstd().encode(data)),
    "blosc": lambda data: bytes(numcodecs.Blosc().encode(data)),
    "lz4": lambda data: bytes(numcodecs.LZ4().encode(data)),
    "gzip": gzip.compress,
    "zlib": zlib.compress,
}


@pytest.mark.parametrize("kind", ENCODE)
@given(data=st.binary(min_size=1, max_size=3000))
def test_honest_chunks_pass(kind, data):
    check_growth(kind, ENCODE[kind](data), len(data))


@pytest.mark.parametrize("size", [1, 200, 255, 256, 300, 65_791, 65_792, 1 << 20])
@pytest.mark.parametrize("checksum", [False, True])
def test_every_form_of_a_zstandard_header_is_read(size, checksum):
    check_growth("zstd", bytes(numcodecs.Zstd(checksum=checksum).encode(bytes(size))), size)


@pytest.mark.parametrize("kind", ["zstd", "blosc", "lz4"])
def test_chunks_that_grow_are_refused(kind):
    data = ENCODE[kind](bytes(1 << 20))
    with pytest.raises(ValueError, match="claims to hold"):
        check_growth(kind, data, 1 << 16)


@pytest.mark.parametrize("form", [zlib.compress, gzip.compress])
def test_a_long_deflate_stream_is_counted(form, monkeypatch):
    from fieldmark.images.readers import zarr_guard

    monkeypatch.setattr(zarr_guard, "_UNCOUNTED", 1000)
    with pytest.raises(ValueError, match="claims to hold"):
        check_growth("gzip", form(bytes(1 << 20)), 1 << 16)
    check_growth("gzip", form(bytes(1 << 20)), 1 << 20)


@pytest.mark.parametrize("kind", ENCODE)
def test_cut_chunks_never_pass_the_decoder(kind):
    data = ENCODE[kind](os.urandom(1000))
    decode = {
        "zstd": numcodecs.Zstd(),
        "blosc": numcodecs.Blosc(),
        "lz4": numcodecs.LZ4(),
        "gzip": numcodecs.GZip(),
        "zlib": numcodecs.Zlib(),
    }[kind].decode
    for length in (3, 10, len(data) // 2, len(data) - 1):

        def run(cut=data[:length]):
            check_growth(kind, cut, 1000)
            decode(cut)

        with pytest.raises((ValueError, RuntimeError, zlib.error, EOFError)):
            run()


def test_a_zstandard_frame_of_no_declared_size_is_bounded():
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + b"\x43\x00\x00\x07" + b""
    with pytest.raises((ValueError, imagecodecs.ZstdError)):
        check_growth("zstd", frame, 4)


def test_keys_stay_inside(tmp_path):
    (tmp_path / "image").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "image/link").symlink_to("../secret")
    store = InsideStore(tmp_path / "image")
    for key in ("link", "../secret"):
        with pytest.raises(ValueError, match="leads out"):
            store._check(key)
    store._check("not/there/yet")
