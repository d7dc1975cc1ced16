"""Zarr arrays from strangers: no chunk outside the folder, none that grows, no codec that runs code.

The zarr library follows links, decompresses whatever size a chunk claims and would build any codec
that metadata names, some of which unpickle. So the codecs are compared with a list before the library
sees them, and a guard stands before each decompressor.
"""

from __future__ import annotations

import asyncio
import stat
import zlib
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, cast

import zarr
from numcodecs.abc import Codec  # type: ignore[import-untyped]
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import BloscCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.storage import LocalStore

from fieldmark.errors import BadFile

_SLACK = 1 << 16
_DEFLATE_RATIO = 1032
"""No deflate stream grows by more."""
_UNCOUNTED = 1 << 28
"""A deflate stream that cannot grow beyond this is not counted through before it is decoded."""


class InsideStore(LocalStore):  # type: ignore[misc]
    """A read-only folder whose keys never lead out of it, nor to devices and pipes."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, read_only=True)
        self._inside = root.resolve()

    def _check(self, key: str) -> None:
        path = (self._inside / key).resolve()
        if not path.is_relative_to(self._inside):
            raise ValueError(f"{key} leads out of the image's folder")
        if path.exists() and not (stat.S_ISREG(path.stat().st_mode) or path.is_dir()):
            raise ValueError(f"{key} is a device, pipe or socket")

    async def get(self, key: str, *args: Any, **kwargs: Any) -> Any:
        await asyncio.to_thread(self._check, key)
        return await super().get(key, *args, **kwargs)

    def get_sync(self, key: str, *args: Any, **kwargs: Any) -> Any:
        self._check(key)
        return super().get_sync(key, *args, **kwargs)


def open_guarded(root: Path, name: str, shown: str) -> zarr.Array[Any]:
    """Open the array `name` of a zarr folder for reading.

    Its codecs must have been checked by `zarr_arrays` before.

    Raises:
        BadFile: Its codecs nest too deeply.
    """
    found = zarr.open_array(InsideStore(root), path=name, mode="r")
    meta: Any = found.metadata
    if meta.zarr_format == 3:
        guarded = replace(meta, codecs=_guarded(meta.codecs, shown))
    else:
        size = prod(meta.chunks) * found.dtype.itemsize
        guarded = replace(meta, compressor=_GuardedCompressor(meta.compressor, size)) if meta.compressor else meta
    return zarr.Array(zarr.AsyncArray(metadata=guarded, store_path=found.store_path))


def _guarded(codecs: tuple[Any, ...], shown: str) -> list[Any]:
    out: list[Any] = []
    for codec in codecs:
        if isinstance(codec, ShardingCodec):
            if any(isinstance(inner, ShardingCodec) for inner in codec.codecs):
                raise BadFile(shown, "its shards hold shards; one layer is read. Export the image again.")
            codec = ShardingCodec(
                chunk_shape=codec.chunk_shape,
                codecs=_guarded(codec.codecs, shown),
                index_codecs=codec.index_codecs,
                index_location=codec.index_location,
            )
        out.append(codec)
        kind = next((n for cls, n in _KINDS if isinstance(codec, cls)), None)
        if kind:
            out.append(_Guard(kind))
    return out


_KINDS = ((GzipCodec, "gzip"), (ZstdCodec, "zstd"), (BloscCodec, "blosc"))


@dataclass(frozen=True)
class _Guard(BytesBytesCodec):  # type: ignore[misc]
    """Stands outside a decompressor and passes bytes that will not grow beyond their chunk."""

    kind: str
    is_fixed_size = False

    def _decode_sync(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        limit = prod(chunk_spec.shape) * chunk_spec.dtype.to_native_dtype().itemsize
        check_growth(self.kind, chunk_bytes.to_bytes(), limit)
        return chunk_bytes

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return self._decode_sync(chunk_bytes, chunk_spec)

    def compute_encoded_size(self, input_byte_length: int, _: Any) -> int:
        return input_byte_length

    def to_dict(self) -> dict[str, Any]:
        return {"name": f"guard-{self.kind}"}


class _GuardedCompressor(Codec):  # type: ignore[misc]
    """A compressor of zarr 2 with the same guard before it."""

    codec_id = "guarded"

    def __init__(self, inner: Any, limit: int) -> None:
        self._inner = inner
        self._limit = limit

    def decode(self, buf: Any, out: Any = None) -> Any:
        check_growth(self._inner.codec_id, bytes(buf), self._limit)
        return self._inner.decode(buf, out)

    def encode(self, buf: Any) -> Any:
        return self._inner.encode(buf)

    def get_config(self) -> dict[str, Any]:
        return cast(dict[str, Any], self._inner.get_config())

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> _GuardedCompressor:
        raise NotImplementedError


def check_growth(kind: str, data: bytes, limit: int) -> None:
    """Refuse compressed bytes that would decode to more than `limit` (and a little).

    Args:
        kind: The compressor's name: blosc, gzip, lz4, zlib or zstd.
        data: One chunk, as it stands in the file.
        limit: Bytes of the decoded chunk.

    Raises:
        ValueError: They would, or they are damaged.
    """
    if kind in {"gzip", "zlib"}:
        size = _deflated(data, limit)
    elif kind == "zstd":
        size = _zstandard(data, limit)
    elif kind == "blosc":
        size = _blosc(data)
    else:
        size = int.from_bytes(data[:4], "little")  # lz4, as numcodecs frames it
    if size > limit + _SLACK:
        raise ValueError(f"a chunk of {limit:,} bytes claims to hold {size:,}")


def _blosc(data: bytes) -> int:
    """The size that a blosc chunk declares, once it is as long as it says: the decoder would read on past its end."""
    if len(data) < 16 or int.from_bytes(data[12:16], "little") != len(data):
        raise ValueError(f"a blosc chunk of {len(data)} bytes is cut off or too long")
    return int.from_bytes(data[4:8], "little")


def _deflated(data: bytes, limit: int) -> int:
    """The size of a gzip or zlib stream, counted only where it could be dangerous."""
    if len(data) * _DEFLATE_RATIO <= max(limit, _UNCOUNTED):
        return 0
    stream, size = zlib.decompressobj(wbits=47), 0  # 47: gzip or zlib, whichever the header says
    while not stream.eof and size <= limit + _SLACK:
        piece = stream.decompress(data, 1 << 24)
        data = stream.unconsumed_tail
        if not piece:
            break
        size += len(piece)
    return size


def _zstandard(data: bytes, limit: int) -> int:
    """The size that a Zstandard frame declares; one that declares none is decoded into a buffer of `limit`."""
    import imagecodecs

    if len(data) < 6 or data[:4] != b"\x28\xb5\x2f\xfd":
        raise ValueError("a Zstandard chunk has no frame header")
    flags = data[4]
    single, width = bool(flags & 32), (0, 2, 4, 8)[flags >> 6]
    width = width or int(single)
    if not width:
        return len(imagecodecs.zstd_decode(data, out=limit))
    start = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    size = int.from_bytes(data[start : start + width], "little")
    return size + 256 if width == 2 else size
