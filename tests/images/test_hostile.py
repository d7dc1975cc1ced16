"""Whatever a stranger hands us ends in one clear error that names the file, and nothing else happens."""

from __future__ import annotations

import importlib.util
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


def test_a_good_image_of_each_kind_is_not_refused(tmp_path):
    """The cases above are refused for what was done to them, not for what they are made of."""
    good = {
        "a.png": hostile.png_bytes(),
        "a.jpg": hostile.jpeg_bytes(),
        "a.tif": hostile.tiff_bytes(tile=(16, 16), compression="zlib"),
        "b.tif": hostile.zlib_strip(),
        "c.tif": hostile.tiff_bytes(tile=(64, 48), compression="jpeg", metadata=None),
        "d.tif": hostile.tiff_of(hostile.plain_tags(4, 4, 130, 16)),
        "e.ome.tif": hostile.ome(),
        "a.npy": hostile.npy_claiming((8, 8)),
        "a.bmp": hostile.pillow_bytes("BMP"),
        "a.gif": hostile.pillow_bytes("GIF"),
        "a.webp": hostile.pillow_bytes("WEBP"),
        "a.ppm": b"P6 4 4 255\n" + bytes(48),
    }
    for name, data in good.items():
        (tmp_path / name).write_bytes(data)
        with open_image(tmp_path / name) as source:
            decode_once(source)
    for version in (2, 3):
        with open_image(hostile.zarr_image(tmp_path, version)) as source:
            decode_once(source)


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
