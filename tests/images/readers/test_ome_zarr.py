"""OME-Zarr: absent chunks, scales, older metadata, and names of what is no image."""

from __future__ import annotations

import json

import numpy as np
import pytest
import zarr

from fieldmark.core.axes import PixelSize
from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile
from fieldmark.images import decode_once, open_image
from fieldmark.images.readers.ome_multiscales import parse_multiscales

TRUTH = np.arange(32 * 48, dtype=np.uint16).reshape(32, 48)


def image(path, multiscale, version=3, fill=0):
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    array = group.create_array("0", shape=TRUTH.shape, chunks=(16, 16), dtype="u2", fill_value=fill)
    array[:] = TRUTH
    found = {"multiscales": [multiscale]}
    group.update_attributes({"ome": found} if version == 3 else found)
    return path


def yx(**facts):
    return {"axes": [{"name": "y", "unit": "nanometer"}, {"name": "x"}], "datasets": [{"path": "0"} | facts]}


@pytest.mark.parametrize(("version", "chunk"), [(3, "0/c/1/2"), (2, "0/1.2")])
def test_an_absent_chunk_holds_the_fill_value(tmp_path, version, chunk):
    path = image(tmp_path / "a.zarr", yx(), version, fill=7)
    (path / chunk).unlink()
    expected = TRUTH.copy()
    expected[16:, 32:] = 7
    with open_image(path) as source:
        decode_once(source)
        np.testing.assert_array_equal(source.read(Box.whole(source.shape))[0, 0, 0], expected)


def test_the_scale_is_that_of_the_level_times_that_of_the_image(tmp_path):
    scale = [{"type": "scale", "scale": [250, 2]}, {"type": "translation", "translation": [9, 9]}]
    whole = {"coordinateTransformations": [{"type": "scale", "scale": [2, 2]}]}
    with open_image(image(tmp_path / "a.zarr", yx(coordinateTransformations=scale) | whole)) as source:
        assert source.pixel_size == PixelSize(y=0.5)  # x has no unit


def test_metadata_of_older_versions(tmp_path):
    names = {"axes": ["y", "x"], "datasets": [{"path": "0"}]}
    with open_image(image(tmp_path / "a.zarr", names, 2)) as source:
        assert (source.axes, source.pixel_size) == ("yx", PixelSize())
    assert parse_multiscales([{"datasets": [{"path": "0"}]}], "a").axes == "tczyx"


@pytest.mark.parametrize(
    ("attributes", "match"),
    [({"plate": {}}, "plate or well"), ({"well": {}}, "plate or well"), ({}, "no multiscales metadata")],
)
def test_a_group_that_is_no_image_says_what_it_is(tmp_path, attributes, match):
    zarr.open_group(str(tmp_path / "a.zarr"), mode="w").update_attributes({"ome": attributes})
    with pytest.raises(BadFile, match=match):
        open_image(tmp_path / "a.zarr")


def test_levels_of_other_types_are_refused(tmp_path):
    path = image(tmp_path / "a.zarr", yx())
    zarr.open_group(str(path), mode="a").create_array("1", shape=(16, 24), dtype="u1")
    meta = json.loads((path / "zarr.json").read_text())
    meta["attributes"]["ome"]["multiscales"][0]["datasets"].append({"path": "1"})
    (path / "zarr.json").write_text(json.dumps(meta))
    with pytest.raises(BadFile, match="level '1' is"):
        open_image(path)
