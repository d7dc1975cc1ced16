"""Damaged and hostile images, each made by a few lines of code."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numcodecs
import numpy as np
import tifffile
import zarr
from PIL import Image

Make = Callable[[Path], Path]
CASES: dict[str, Make] = {}

GRAY = (np.arange(64 * 48).reshape(64, 48) % 251).astype(np.uint8)
COLOR = np.dstack([GRAY, GRAY[::-1], GRAY[:, ::-1]])


def case(make: Make) -> Make:
    CASES[make.__name__] = make
    return make


def bytes_case(name: str, suffix: str, make: Callable[[], bytes]) -> None:
    def write(folder: Path) -> Path:
        path = folder / f"{name}{suffix}"
        path.write_bytes(make())
        return path

    CASES[name] = write


def png_bytes(array: np.ndarray = COLOR) -> bytes:
    return imagecodecs.png_encode(array)


def jpeg_bytes() -> bytes:
    out = io.BytesIO()
    Image.fromarray(COLOR).save(out, "JPEG", quality=95)
    return out.getvalue()


def tiff_bytes(array: np.ndarray = COLOR, **facts: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, array, **facts)
    return out.getvalue()


def npy_bytes(array: np.ndarray, **facts: bool) -> bytes:
    out = io.BytesIO()
    np.save(out, array, **facts)
    return out.getvalue()


def pillow_bytes(form: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(COLOR).save(out, form)
    return out.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, depth: int = 8, color: int = 0, data: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def jpeg_of(width: int, height: int, samples: int = 3, bits: int = 8) -> bytes:
    """The real image with another frame header."""
    data = bytearray(jpeg_bytes())
    at = data.index(b"\xff\xc0") + 4
    data[at : at + 6] = struct.pack(">BHHB", bits, height, width, samples)
    return bytes(data)


def npy_claiming(shape: tuple[int, ...], descr: str = "|u1", content: bytes = b"\0" * 64) -> bytes:
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    padded = text + " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded.encode() + content


def tiff_of(tags: list[tuple[int, int, int, int]], tail: bytes = b"\0" * 256, following: int = 0) -> bytes:
    """A little-endian TIFF with one directory at byte 8. Tags are (code, type, count, value)."""
    body = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + struct.pack("<I", following) + tail


def plain_tags(width: int, height: int, offset: int, count: int, **more: int) -> list[tuple[int, int, int, int]]:
    tags = {256: (4, width), 257: (4, height), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, offset)}
    tags |= {277: (3, 1), 278: (4, height), 279: (4, count)}
    tags |= {int(code[1:]): (4, value) for code, value in more.items()}
    return [(code, kind, 1, value) for code, (kind, value) in tags.items()]


def patched_tag(data: bytes, code: int, value: int) -> bytes:
    """The classic little-endian TIFF with the value of one LONG or SHORT tag of its first directory replaced."""
    out = bytearray(data)
    start = struct.unpack_from("<I", data, 4)[0]
    for i in range(struct.unpack_from("<H", data, start)[0]):
        at = start + 2 + 12 * i
        if struct.unpack_from("<H", data, at)[0] == code:
            struct.pack_into("<HII", out, at + 2, 4, 1, value)
    return bytes(out)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def cmyk() -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.dstack([COLOR, GRAY]), "CMYK").save(out, "JPEG")
    return out.getvalue()


def zipped() -> bytes:
    out = io.BytesIO()
    np.savez(out, a=GRAY)
    return out.getvalue()


def animated_webp() -> bytes:
    out = io.BytesIO()
    frames = [Image.fromarray(COLOR), Image.fromarray(COLOR[::-1].copy())]
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    return out.getvalue()


def short_palette() -> bytes:
    """Values of 8 bits, but only 16 colors."""
    tags = [tag for tag in plain_tags(4, 4, 200, 16) if tag[0] != 262]
    return tiff_of([*tags, (262, 3, 1, 3), (320, 3, 48, 200)], tail=bytes(range(256)) * 2)


def huge_frame() -> bytes:
    data = pillow_bytes("GIF")
    return patched(data, data.index(b",\0\0\0\0\x30\0\x40\0") + 5, b"\xff" * 4)


def circle_of_two() -> bytes:
    first = tiff_of(plain_tags(4, 4, 400, 16), tail=b"", following=200).ljust(200, b"\0")
    second = tiff_of(plain_tags(4, 4, 400, 16), tail=b"", following=8)[8:]
    return (first + second).ljust(600, b"\0")


def zlib_strip() -> bytes:
    return tiff_bytes(GRAY, compression="zlib", metadata=None)


def garbage_after(data: bytes, code: int) -> bytes:
    start = struct.unpack_from("<I", data, 4)[0]
    tags = (struct.unpack_from("<HHII", data, start + 2 + 12 * i) for i in range(20))
    at = next(tag[3] for tag in tags if tag[0] == code)
    return patched(data, at, b"\x07" * 40)


def tiles_declaring(side: int, tile: int = 256) -> bytes:
    tags = {256: side, 257: side, 258: 8, 259: 8, 262: 1, 277: 1, 322: tile, 323: tile, 324: 200, 325: 16}
    return tiff_of([(code, 4, 1, value) for code, value in tags.items()])


def jpeg_tile_bomb() -> bytes:
    """A tile of 64 x 48 whose JPEG stream claims 65,500 x 65,500 pixels."""
    data = tiff_bytes(tile=(64, 48), compression="jpeg", metadata=None)
    at = data.index(b"\xff\xc0") + 5
    return patched(data, at, struct.pack(">HH", 65_500, 65_500))


def ome(head: str = "", tail: str = "", uuids: tuple[str, ...] = (), size_z: int = 2) -> bytes:
    links = "".join(
        f'<TiffData IFD="{i}" FirstZ="{i}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{i}</UUID></TiffData>'
        for i, name in enumerate(uuids)
    )
    xml = (
        f'<?xml version="1.0"?>{head}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="I:0">'
        f'<Pixels ID="P:0" DimensionOrder="XYZCT" Type="uint8" SizeX="48" SizeY="64" SizeZ="{size_z}" SizeC="1" '
        f'SizeT="1"><Channel ID="C:0"/>{links or "<TiffData/>"}{tail}</Pixels></Image></OME>'
    )
    return tiff_bytes(np.stack([GRAY, GRAY]), description=xml, metadata=None, photometric="minisblack")


# Any format
bytes_case("empty_png", ".png", lambda: b"")
bytes_case("empty_tif", ".tif", lambda: b"")
bytes_case("text_named_png", ".png", lambda: b"dear reader, I am no picture\n")
bytes_case("text_named_tif", ".tif", lambda: b"II is not 42")
bytes_case("text_named_bmp", ".bmp", lambda: b"BM, but nothing more of a bitmap follows here")
bytes_case("zeros_named_jpg", ".jpg", lambda: b"\0" * 4096)
bytes_case("one_byte_npy", ".npy", lambda: b"\x93")
bytes_case("pdf_named_tif", ".tif", lambda: b"%PDF-1.7\n")
bytes_case("hdf5_named_tif", ".tif", lambda: b"\x89HDF\r\n\x1a\n" + b"\0" * 64)
bytes_case("unknown_suffix", ".dat", lambda: b"\1\2\3\4" * 9)

# PNG
bytes_case("png_signature_only", ".png", lambda: png_bytes()[:8])
bytes_case("png_cut_in_header", ".png", lambda: png_bytes()[:20])
bytes_case("png_cut_in_pixels", ".png", lambda: png_bytes()[: len(png_bytes()) // 2])
bytes_case("png_without_end", ".png", lambda: png_bytes()[:-12])
bytes_case("png_flipped_byte", ".png", lambda: flipped(png_bytes(), len(png_bytes()) // 2))
bytes_case("png_declares_10_12_pixels", ".png", lambda: png_of(10**6, 10**6))
bytes_case("png_declares_no_pixels", ".png", lambda: png_of(0, 7))
bytes_case("png_bomb", ".png", lambda: png_of(60_000, 60_000, data=zlib.compress(bytes(10**6))))
bytes_case("png_too_few_rows", ".png", lambda: png_of(500, 500, data=zlib.compress(bytes(501 * 20))))
bytes_case("png_odd_depth", ".png", lambda: png_of(5, 5, depth=3))
bytes_case("png_huge_chunk", ".png", lambda: png_bytes()[:33] + b"\xff\xff\xff\xf0IDAT" + b"\0" * 64)

# JPEG
bytes_case("jpeg_cut_in_header", ".jpg", lambda: jpeg_bytes()[:200])
bytes_case("jpeg_cut_in_pixels", ".jpg", lambda: jpeg_bytes()[: len(jpeg_bytes()) * 2 // 3])
bytes_case("jpeg_without_end", ".jpeg", lambda: jpeg_bytes()[:-2])
bytes_case("jpeg_no_height", ".jpg", lambda: jpeg_of(48, 0))
bytes_case("jpeg_of_12_bits", ".jpg", lambda: jpeg_of(48, 64, bits=12))
bytes_case("jpeg_cmyk", ".jpg", cmyk)
bytes_case("jpeg_declares_too_much", ".jpg", lambda: jpeg_of(65_500, 65_500))

# NumPy
bytes_case("npy_of_objects", ".npy", lambda: npy_bytes(np.array([[{}, []]], object), allow_pickle=True))
bytes_case("npy_of_records", ".npy", lambda: npy_bytes(np.zeros((4, 4), [("a", "u1"), ("b", "f4")])))
bytes_case("npy_of_complex", ".npy", lambda: npy_bytes(np.zeros((4, 4), complex)))
bytes_case("npy_of_text", ".npy", lambda: npy_bytes(np.array([["a", "b"]])))
bytes_case("npy_of_one_axis", ".npy", lambda: npy_bytes(np.zeros(9)))
bytes_case("npy_of_no_axis", ".npy", lambda: npy_bytes(np.array(1.0)))
bytes_case("npy_of_six_axes", ".npy", lambda: npy_bytes(np.zeros((1,) * 6)))
bytes_case("npy_without_pixels", ".npy", lambda: npy_bytes(np.zeros((0, 5))))
bytes_case("npy_truncated", ".npy", lambda: npy_bytes(GRAY)[:-1])
bytes_case("npy_declares_10_12", ".npy", lambda: npy_claiming((10**6, 10**6)))
bytes_case("npy_negative", ".npy", lambda: npy_claiming((-4, 4)))
bytes_case("npy_header_is_code", ".npy", lambda: npy_claiming((4, 4)).replace(b"False", b"exit("))
bytes_case("npy_header_cut", ".npy", lambda: npy_bytes(GRAY)[:20])
bytes_case("npz", ".npz", zipped)

# libIFT's multi-band images
bytes_case("mimg_header_only", ".mimg", lambda: b"MIG\n2 2 1 1\n1 1 1\n")
bytes_case("mimg_declares_10_12", ".mimg", lambda: b"MIG\n1000000 1000000 1 1\n1 1 1\n" + bytes(64))
bytes_case("mimg_one_byte_short", ".mimg", lambda: b"MIG\n2 2 1 1\n1 1 1\n" + bytes(15))
bytes_case("mimg_no_lines", ".mimg", lambda: b"MIG\n" + bytes(300))
bytes_case("mimg_negative", ".mimg", lambda: b"MIG\n-2 2 1 1\n1 1 1\n" + bytes(16))
bytes_case("text_named_mimg", ".mimg", lambda: b"dear reader")

# TIFF
bytes_case("tiff_header_only", ".tif", lambda: b"II*\0")
bytes_case("tiff_no_directory", ".tif", lambda: b"II*\0" + b"\0" * 12)
bytes_case("tiff_directory_outside", ".tif", lambda: b"II*\0" + struct.pack("<I", 10**6) + b"\0" * 64)
bytes_case("tiff_directory_circle", ".tif", lambda: tiff_of(plain_tags(4, 4, 200, 16), following=8))
bytes_case("tiff_circle_of_two", ".tif", circle_of_two)
bytes_case("tiff_directory_cut", ".tif", lambda: tiff_of(plain_tags(4, 4, 200, 16))[:40])
bytes_case("tiff_no_tags", ".tif", lambda: tiff_of([]))
bytes_case("tiff_too_many_tags", ".tif", lambda: b"II*\0" + struct.pack("<IH", 8, 60_000) + b"\0" * 999)
bytes_case("tiff_without_size", ".tif", lambda: tiff_of([(258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 100)]))
bytes_case("tiff_zero_width", ".tif", lambda: tiff_of(plain_tags(0, 4, 200, 16)))
bytes_case("tiff_pixels_cut", ".tif", lambda: tiff_bytes()[:-100])
bytes_case("tiff_tiles_cut", ".tif", lambda: tiff_bytes(tile=(16, 16), compression="zlib")[:-100])
bytes_case("tiff_jpeg_tiles_cut", ".tif", lambda: tiff_bytes(tile=(16, 16), compression="jpeg")[:-100])
bytes_case("tiff_declares_10_12", ".tif", lambda: tiff_of(plain_tags(10**6, 10**6, 200, 16)))
bytes_case("tiff_tiles_declare_10_12", ".tif", lambda: tiles_declaring(10**6))
bytes_case("tiff_tile_of_10_12", ".tif", lambda: tiles_declaring(64, tile=10**6))
bytes_case("tiff_strip_outside", ".tif", lambda: patched_tag(zlib_strip(), 273, 10**9))
bytes_case("tiff_strip_too_long", ".tif", lambda: patched_tag(zlib_strip(), 279, 10**9))
bytes_case("tiff_tag_count_bomb", ".tif", lambda: tiff_of([*plain_tags(4, 4, 200, 16)[:5], (273, 4, 2**31, 100)]))
bytes_case("tiff_deflate_garbage", ".tif", lambda: garbage_after(zlib_strip(), 273))
bytes_case("tiff_unknown_compression", ".tif", lambda: patched_tag(zlib_strip(), 259, 34_676))
bytes_case("tiff_complex", ".tif", lambda: tiff_bytes(np.zeros((8, 8), np.complex64)))
bytes_case("tiff_short_palette", ".tif", short_palette)
bytes_case("tiff_bigtiff_bad_header", ".tif", lambda: b"II+\0\x04\0\0\0" + b"\0" * 32)
bytes_case("tiff_jpeg_tile_bomb", ".tif", jpeg_tile_bomb)
bytes_case("ome_tiff_other_file", ".ome.tif", lambda: ome(uuids=("a.ome.tif", "../../etc/passwd")))
bytes_case("ome_tiff_entities", ".ome.tif", lambda: ome(head='<!DOCTYPE x [<!ENTITY a "aaaa">]>'))
bytes_case("ome_tiff_no_xml", ".ome.tif", lambda: ome(tail="<Pixels"))
bytes_case("ome_tiff_missing_planes", ".ome.tif", lambda: ome(size_z=9))

# The rest
bytes_case("bmp_cut", ".bmp", lambda: pillow_bytes("BMP")[:-500])
bytes_case("bmp_huge", ".bmp", lambda: patched(pillow_bytes("BMP"), 18, struct.pack("<ii", 10**6, 10**6)))
bytes_case("gif_cut", ".gif", lambda: pillow_bytes("GIF")[:400])
bytes_case("gif_huge_screen", ".gif", lambda: patched(pillow_bytes("GIF"), 6, b"\xff" * 4))
bytes_case("gif_huge_frame", ".gif", huge_frame)
bytes_case("gif_header_only", ".gif", lambda: b"GIF89a")
bytes_case("webp_cut", ".webp", lambda: pillow_bytes("WEBP")[:-200])
bytes_case("webp_animated", ".webp", animated_webp)
bytes_case("webp_header_only", ".webp", lambda: b"RIFF\x10\0\0\0WEBP")
bytes_case("ppm_cut", ".ppm", lambda: b"P6 64 48 255\n" + bytes(100))
bytes_case("ppm_no_size", ".ppm", lambda: b"P6 what")
bytes_case("ppm_huge", ".ppm", lambda: b"P6 1000000 1000000 255\n" + bytes(100))
bytes_case("pgm_text_cut", ".pgm", lambda: b"P2 4 4 255\n1 2 3")
bytes_case("pgm_bad_maximum", ".pgm", lambda: b"P5 4 4 99999\n" + bytes(32))


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def claim(path: Path) -> None:
    path.write_bytes(struct.pack("<I", 2**31 - 1) + path.read_bytes()[4:])


def link_out(path: Path) -> None:
    secret = path.parents[4] / "secret"
    secret.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(secret)


def level_link_out(path: Path) -> None:
    (path / "0").rename(path.parent / "elsewhere")
    (path / "0").symlink_to(path.parent / "elsewhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def gzip_bomb() -> bytes:
    stream = zlib.compressobj(1, wbits=31)
    piece = bytes(10**7)
    return b"".join([*(stream.compress(piece) for _ in range(30)), stream.flush()])


# Folders, links and zarr
@case
def missing_file(folder: Path) -> Path:
    return folder / "nothing.png"


@case
def folder_named_png(folder: Path) -> Path:
    (folder / "pictures.png").mkdir()
    return folder / "pictures.png"


@case
def plain_folder(folder: Path) -> Path:
    (folder / "pictures").mkdir()
    return folder / "pictures"


@case
def folder_named_zarr(folder: Path) -> Path:
    (folder / "empty.ome.zarr").mkdir()
    return folder / "empty.ome.zarr"


@case
def file_named_zarr(folder: Path) -> Path:
    (folder / "file.zarr").write_text("no folder")
    return folder / "file.zarr"


@case
def dangling_link(folder: Path) -> Path:
    (folder / "link.png").symlink_to(folder / "gone.png")
    return folder / "link.png"


@case
def link_circle(folder: Path) -> Path:
    (folder / "a.png").symlink_to(folder / "b.png")
    (folder / "b.png").symlink_to(folder / "a.png")
    return folder / "a.png"


@case
def pipe_named_tif(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.tif")
    return folder / "pipe.tif"


@case
def device(folder: Path) -> Path:
    return Path("/dev/zero")


@case
def name_with_zero_byte(folder: Path) -> Path:
    return folder / "a\0b.png"


@case
def very_long_name(folder: Path) -> Path:
    return folder / ("x" * 5000 + ".png")


def zarr_image(folder: Path, version: int = 3, **facts: object) -> Path:
    """A good OME-Zarr image of 64 x 48, in chunks of 16 x 16."""
    path = folder / "image.ome.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    array = group.create_array("0", shape=GRAY.shape, dtype=np.uint8, **({"chunks": (16, 16)} | facts))
    array[:] = GRAY
    axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    scale = [{"type": "scale", "scale": [1.0, 1.0]}]
    image = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
    group.update_attributes(
        {"ome": {"version": "0.5", "multiscales": image}} if version == 3 else {"multiscales": image}
    )
    return path


def edit(path: Path, change: Callable[[dict], object]) -> None:
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))


def image_of(meta: dict) -> dict:
    return meta["attributes"]["ome"]["multiscales"][0]


def zarr_case(name: str, change: Callable[[Path], object], version: int = 3, **facts: object) -> None:
    def make(folder: Path) -> Path:
        path = zarr_image(folder, version, **facts)
        change(path)
        return path

    CASES[name] = make


def group_case(name: str, change: Callable[[dict], object]) -> None:
    zarr_case(name, lambda path: edit(path / "zarr.json", change))


def array_case(name: str, change: Callable[[dict], object]) -> None:
    zarr_case(name, lambda path: edit(path / "0" / "zarr.json", change))


def old_array_case(name: str, change: Callable[[dict], object]) -> None:
    zarr_case(name, lambda path: edit(path / "0" / ".zarray", change), version=2)


def set_chunks(meta: dict, chunks: list[object]) -> None:
    meta["chunk_grid"]["configuration"]["chunk_shape"] = chunks


group_case("zarr_path_climbs", lambda meta: image_of(meta)["datasets"][0].update(path="../../secret"))
group_case("zarr_path_absolute", lambda meta: image_of(meta)["datasets"][0].update(path="/etc"))
group_case("zarr_path_is_list", lambda meta: image_of(meta)["datasets"][0].update(path=["0"]))
group_case("zarr_level_missing", lambda meta: image_of(meta)["datasets"].append({"path": "1"}))
group_case("zarr_no_datasets", lambda meta: image_of(meta).update(datasets=[]))
group_case("zarr_thousand_levels", lambda meta: image_of(meta).update(datasets=[{"path": "0"}] * 1000))
group_case("zarr_axes_swapped", lambda meta: image_of(meta)["axes"].reverse())
group_case("zarr_axes_numbers", lambda meta: image_of(meta).update(axes=[1, 2]))
group_case("zarr_axes_too_many", lambda meta: image_of(meta)["axes"].insert(0, {"name": "z"}))
group_case("zarr_scale_text", lambda meta: image_of(meta)["datasets"][0].update(coordinateTransformations="big"))
group_case("zarr_no_multiscales", lambda meta: meta["attributes"]["ome"].pop("multiscales"))
group_case("zarr_multiscales_number", lambda meta: meta["attributes"]["ome"].update(multiscales=7))
array_case("zarr_chunk_of_10_12", lambda meta: (meta.update(shape=[10**6] * 2), set_chunks(meta, [10**6] * 2)))
array_case("zarr_negative_shape", lambda meta: meta.update(shape=[-1, 48]))
array_case("zarr_shape_is_text", lambda meta: meta.update(shape="64"))
array_case("zarr_zero_chunk", lambda meta: set_chunks(meta, [0, 16]))
array_case("zarr_unknown_codec", lambda meta: meta["codecs"].append({"name": "numcodecs.pickle"}))
array_case("zarr_codecs_number", lambda meta: meta.update(codecs=5))
array_case("zarr_text_values", lambda meta: meta.update(data_type="string"))
array_case("zarr_wrong_type", lambda meta: meta.update(data_type="float64"))
old_array_case("zarr2_pickle_filter", lambda meta: meta.update(filters=[{"id": "pickle"}]))
old_array_case("zarr2_pickle_compressor", lambda meta: meta.update(compressor={"id": "pickle"}))
old_array_case("zarr2_object_values", lambda meta: meta.update(dtype="|O"))
old_array_case("zarr2_record_values", lambda meta: meta.update(dtype=[["a", "<u1"]]))
zarr_case("zarr_metadata_no_json", lambda path: (path / "zarr.json").write_text("{nothing"))
zarr_case("zarr_metadata_list", lambda path: (path / "zarr.json").write_text("[]"))
zarr_case("zarr_metadata_deep", lambda path: (path / "zarr.json").write_text("[" * 100_000))
zarr_case("zarr_chunk_cut", lambda path: cut(path / "0/c/1/1"))
zarr_case("zarr_chunk_empty", lambda path: (path / "0/c/1/1").write_bytes(b""))
zarr_case("zarr_raw_chunk_cut", lambda path: cut(path / "0/c/1/1"), compressors=None)
zarr_case("zarr_shard_cut", lambda path: cut(path / "0/c/1/1"), shards=(32, 32), chunks=(16, 16))
zarr_case("zarr2_chunk_cut", lambda path: cut(path / "0/1.1"), version=2)
zarr_case("zarr2_blosc_overread", lambda path: cut(path / "0/1.1"), version=2, compressors=numcodecs.Blosc(clevel=0))
zarr_case("zarr2_lz4_bomb", lambda path: claim(path / "0/1.1"), version=2, compressors=numcodecs.LZ4())
zarr_case("zarr_chunk_link_out", lambda path: link_out(path / "0/c/1/1"))
zarr_case("zarr_level_link_out", level_link_out)
zarr_case("zarr_chunk_pipe", lambda path: pipe(path / "0/c/1/1"))
zarr_case("zarr_zstd_bomb", lambda path: (path / "0/c/1/1").write_bytes(imagecodecs.zstd_encode(bytes(6 * 10**8))))
zarr_case(
    "zarr_gzip_bomb",
    lambda path: (path / "0/c/1/1").write_bytes(gzip_bomb()),
    compressors=[zarr.codecs.GzipCodec()],
)
zarr_case(
    "zarr_blosc_bomb",
    lambda path: (path / "0/c/1/1").write_bytes(imagecodecs.blosc_encode(bytes(10**9))),
    compressors=[zarr.codecs.BloscCodec()],
)
zarr_case("zarr_nested_metadata_only", lambda path: (path / "0/zarr.json").unlink())


@case
def zarr_bare_array(folder: Path) -> Path:
    zarr.save_array(str(folder / "bare.zarr"), GRAY)
    return folder / "bare.zarr"
