"""The metadata of one zarr array, checked before the zarr library makes anything of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.errors import BadFile
from fieldmark.images.readers import OpenRequest
from fieldmark.images.source import check_bytes, readable_dtype
from fieldmark.images.zarr_folders import read_metadata

CODECS = frozenset({"bytes", "transpose", "gzip", "zstd", "blosc", "crc32c", "sharding_indexed"})
"""Codecs of zarr 3 that are read: none runs code, and each one's growth can be bounded."""
COMPRESSORS = frozenset({"blosc", "zstd", "zlib", "gzip", "lz4"})
"""Compressors of zarr 2 that are read; filters are not."""
_AGAIN = "Export the image again."


def read_array_metadata(folder: Path, name: str, shown: str) -> dict[str, Any]:
    """The metadata of an array of either version.

    Raises:
        BadFile: There is none, or it cannot be read.
    """
    meta = read_metadata(folder, "zarr.json", shown) or read_metadata(folder, ".zarray", shown)
    if not meta:
        raise BadFile(shown, f"level {name!r} has neither zarr.json nor .zarray. Copy or export it again.")
    return meta


def check_array_metadata(meta: dict[str, Any], name: str, ndim: int, ask: OpenRequest) -> None:
    """Refuse an array that cannot be an image, is absurdly large in one piece, or names unknown codecs.

    Raises:
        BadFile: Its shape, chunks, type or codecs are not those of an image.
        TooLarge: One chunk alone exceeds `ask.max_bytes`.
    """
    shape, chunks = meta.get("shape"), _chunks(meta)
    for sizes in (shape, chunks):
        if not isinstance(sizes, list) or len(sizes) != ndim or not all(type(n) is int and n > 0 for n in sizes):
            raise BadFile(
                ask.shown,
                f"level {name!r} declares the shape {shape} in chunks of {chunks}; each must be {ndim} sizes of at "
                f"least 1. {_AGAIN}",
            )
    dtype = _dtype(meta, ask.shown)
    check_bytes(ask.shown, chunks, dtype, ask.max_bytes, what=f"one chunk of level {name!r}")
    for codec, known in _codecs(meta):
        if codec not in known:
            raise BadFile(ask.shown, f"level {name!r} needs the codec {codec!r}; read are {', '.join(sorted(known))}.")


def _chunks(meta: dict[str, Any]) -> Any:
    if "chunks" in meta:
        return meta["chunks"]
    return _inside(_inside(meta, "chunk_grid"), "configuration").get("chunk_shape")


def _dtype(meta: dict[str, Any], shown: str) -> np.dtype:
    name = meta.get("data_type", meta.get("dtype"))
    try:
        dtype = np.dtype(name if isinstance(name, str) else "none")
    except (TypeError, ValueError) as error:
        raise BadFile(shown, f"its values are of the type {name!r}, which no image has. {_AGAIN}") from error
    return readable_dtype(dtype, shown)


def _codecs(meta: dict[str, Any]) -> Iterator[tuple[Any, frozenset[str]]]:
    """Every codec that the array names, at any depth, and those that are known in its place."""
    if "codecs" not in meta:
        for entry in [meta.get("compressor"), *(meta.get("filters") or [])]:
            if entry is not None:
                yield (entry.get("id") if isinstance(entry, dict) else entry), COMPRESSORS
        if meta.get("filters"):
            yield "a filter", COMPRESSORS
        return
    waiting = list(meta["codecs"])
    while waiting:
        codec = waiting.pop()
        name = codec.get("name") if isinstance(codec, dict) else codec
        yield name, CODECS
        configuration = _inside(codec, "configuration")
        waiting += [*configuration.get("codecs", []), *configuration.get("index_codecs", [])]


def _inside(found: Any, key: str) -> dict[str, Any]:
    inner = found.get(key) if isinstance(found, dict) else None
    return inner if isinstance(inner, dict) else {}
