"""Whatever a stranger hands us ends in one clear error that names the file, and nothing else happens."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import sys
import threading
from pathlib import Path

import pytest

from fieldmark.errors import BadFile, TooLarge
from fieldmark.images import decode_once, open_image

_spec = importlib.util.spec_from_file_location("hostile_images", Path(__file__).with_name("hostile.py"))
hostile = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hostile)

TOO_LARGE = {
    "png_declares_10_12_pixels",
    "png_bomb",
    "jpeg_declares_too_much",
    "ppm_huge",
    "bmp_huge",
    "gif_huge_screen",
    "gif_huge_frame",
    "tiff_tile_of_10_12",
    "zarr_chunk_of_10_12",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


def forget_peak() -> int:
    """Forget how much memory the process ever held, and return what it holds now, in KiB; 0 where nobody counts."""
    if sys.platform != "linux":
        return 0
    Path("/proc/self/clear_refs").write_text("5")
    return peak_kib()


def peak_kib() -> int:
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1])


@pytest.mark.parametrize("name", hostile.CASES)
def test_one_clear_error_and_nothing_else(name, tmp_path, capfd, recwarn):
    path = hostile.CASES[name](tmp_path)
    before = contents(tmp_path)
    shown = "the name I typed"
    held = forget_peak()

    with pytest.raises(BadFile) as caught, open_image(path, shown=shown) as source:
        decode_once(source)

    message = str(caught.value)
    assert message.startswith(f"{shown}: ")
    assert "\n" not in message
    assert len(message) < 500
    assert message.rstrip()[-1] in ".)"
    assert isinstance(caught.value, TooLarge) == (name in TOO_LARGE)
    assert contents(tmp_path) == before
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    if held:
        assert peak_kib() - held < 100_000


def test_there_are_more_than_sixty():
    assert len(hostile.CASES) >= 60


def good_files() -> dict[str, bytes]:
    return {
        "a.png": hostile.png_bytes(),
        "a.jpg": hostile.jpeg_bytes(),
        "a.tif": hostile.tiff_bytes(tile=(16, 16), compression="zlib"),
        "b.tif": hostile.zlib_strip(),
        "c.tif": hostile.tiff_bytes(tile=(64, 48), compression="jpeg", metadata=None),
        "d.tif": hostile.tiff_of(hostile.plain_tags(4, 4, 130, 16)),
        "e.ome.tif": hostile.ome(),
        "a.mimg": b"MIG\n4 2 1 3\n0.5 0.5 1\n" + bytes(96),
        "a.npy": hostile.npy_claiming((8, 8)),
        "a.bmp": hostile.pillow_bytes("BMP"),
        "a.gif": hostile.pillow_bytes("GIF"),
        "a.webp": hostile.pillow_bytes("WEBP"),
        "a.ppm": b"P6 4 4 255\n" + bytes(48),
    }


def test_a_good_image_of_each_kind_is_not_refused(tmp_path):
    """The cases above are refused for what was done to them, not for what they are made of."""
    good = good_files()
    for name, data in good.items():
        (tmp_path / name).write_bytes(data)
        with open_image(tmp_path / name) as source:
            decode_once(source)
    for version in (2, 3):
        with open_image(hostile.zarr_image(tmp_path, version)) as source:
            decode_once(source)


def refusal(path: Path) -> str:
    """What is said of a file; its bare name where it is read."""
    try:
        with open_image(path, max_bytes=10**7) as source:
            if math.prod(source.shape) < 10**6:
                decode_once(source)
    except BadFile as error:
        return str(error)
    return str(path)


def mangled(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut out or put in, most often near the beginning."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(min(len(out), rng.choice([40, 200, len(out)])))
        kind = rng.randrange(4)
        if kind < 2:
            out[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        elif kind == 2:
            out[at : at + 4] = rng.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\1\0"])
        else:
            del out[at : at + rng.randrange(1, 40)]
    return bytes(out)


@pytest.mark.parametrize("name", good_files())
def test_mangled_bytes_are_read_or_refused_but_nothing_else(name, tmp_path):
    rng, data = random.Random(name), good_files()[name]
    for _ in range(40):
        (tmp_path / name).write_bytes(mangled(data, rng))
        assert refusal(tmp_path / name).startswith(str(tmp_path / name))


def mangled_json(value, rng: random.Random):
    """The same JSON with one of its values replaced by something else."""
    odd = [None, -1, 0, 10**20, 1.5, "", "x", [], {}, [[]], True, "../..", "\0"]
    if rng.random() < 0.15 or not isinstance(value, (dict, list)) or not value:
        return rng.choice(odd)
    out = value.copy()
    key = rng.choice(list(out)) if isinstance(out, dict) else rng.randrange(len(out))
    out[key] = mangled_json(out[key], rng)
    return out


@pytest.mark.parametrize("name", ["2 .zattrs", "2 0/.zarray", "3 zarr.json", "3 0/zarr.json"])
def test_mangled_metadata_is_read_or_refused_but_nothing_else(name, tmp_path):
    version, file = name.split()
    path = hostile.zarr_image(tmp_path, int(version))
    rng, good = random.Random(name), json.loads((path / file).read_text())
    for _ in range(120):
        (path / file).write_text(json.dumps(mangled_json(good, rng)))
        assert refusal(path).startswith(str(path))


def test_a_subdirectory_that_is_the_image_itself_is_no_endless_pyramid(tmp_path):
    tags = hostile.plain_tags(4, 4, 200, 16)
    (tmp_path / "a.tif").write_bytes(hostile.tiff_of([*tags, (330, 4, 1, 8)]))
    with open_image(tmp_path / "a.tif") as source:
        decode_once(source)
        assert len(source.levels) <= 2


def test_reading_from_many_threads_gives_the_same_pixels(tmp_path):
    from fieldmark.core.geometry import Box

    (tmp_path / "a.tif").write_bytes(hostile.tiff_bytes(tile=(16, 16), compression="zlib"))
    wrong = []
    with open_image(tmp_path / "a.tif") as source:

        def read(y: int) -> None:
            for x in range(0, 40, 3):
                found = source.read(Box((0, 0, 0, y, x), (1, 3, 1, y + 9, x + 8)))
                if not (found[0, :, 0] == hostile.COLOR[y : y + 9, x : x + 8].transpose(2, 0, 1)).all():
                    wrong.append((y, x))

        threads = [threading.Thread(target=read, args=(y,)) for y in range(0, 50, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
