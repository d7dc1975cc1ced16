from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldmark.checkpoint import ClassSpec, Header, Taught, header_of, load, save
from fieldmark.checkpoint.bundle import MAX_JSON_BYTES, read_bundle, write_bundle
from fieldmark.core.axes import PixelSize
from fieldmark.errors import BadFile

HEADER = Header(
    family="flim",
    config={"layers": [{"kernel_size": 3}]},
    preparation=[{"step": "scale", "by": 255.0}],
    outputs=("classes", "features"),
    channels=3,
    stride=(1, 4, 4),
    halo=(0, 12, 12),
    tile_exact=True,
    pixel_size=PixelSize(y=0.5, x=0.25),
    classes=(ClassSpec(id=4, name="Ei", value=1), ClassSpec(id=2, name="Hintergrund ä", value=7)),
    taught=(Taught(image="a/b.png", content_hash="00ff"),),
    metrics={"dice": 0.75},
    details={"run": "x"},
    code_version="0.0",
)
WEIGHTS = {
    "b.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "a.index": np.array([[1, -1]], np.int64),
    "empty": np.zeros((0, 5), np.float32),
    "scalar": np.array(3.5, np.float32),
}

KILLED_AT_RENAME = """
import os, sys
from pathlib import Path
import numpy as np
from fieldmark.checkpoint import bundle
real, left = os.replace, [int(sys.argv[2])]
def replace(a, b):
    if left[0] == 0:
        os.kill(os.getpid(), 9)
    left[0] -= 1
    real(a, b)
os.replace = replace
bundle.write_bundle(Path(sys.argv[1]), "model.json", {"n": 2}, {"w": np.full(4, 2.0)})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "m", HEADER, WEIGHTS)
    return tmp_path / "m"


def edited(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_what_is_saved_is_loaded(folder):
    header, weights = load(folder)
    assert header == HEADER == header_of(folder)
    assert weights.keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        assert weights[name].dtype == array.dtype
        assert np.array_equal(weights[name], array)


def test_the_folder_holds_json_and_plain_tensors(folder):
    names = sorted(path.name for path in folder.iterdir())
    values = json.loads((folder / "model.json").read_text())
    assert names == ["model.json", values["weights"]]
    raw = (folder / values["weights"]).read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    listed = json.loads(raw[8 : 8 + length])  # the format as its specification says, read without its library
    start, stop = listed["b.weight"]["data_offsets"]
    assert np.array_equal(np.frombuffer(raw[8 + length :][start:stop], "<f4").reshape(2, 3, 4), WEIGHTS["b.weight"])


def test_saving_again_replaces_the_weights_and_leaves_no_old_ones(folder):
    save(folder, replace(HEADER, metrics={}), {"w": np.zeros(2)})
    assert len(list(folder.iterdir())) == 2
    assert load(folder)[1].keys() == {"w"}


@pytest.mark.parametrize("failing", [0, 1])
def test_a_failure_between_the_two_writes_leaves_the_old_model(folder, monkeypatch, failing):
    real, left = os.replace, [failing]

    def replace_(a, b):
        if left[0] == 0:
            raise OSError("disk full")
        left[0] -= 1
        real(a, b)

    with monkeypatch.context() as patch:
        patch.setattr("fieldmark.core.files.os.replace", replace_)
        with pytest.raises(OSError, match="disk full"):
            save(folder, HEADER, {"w": np.zeros(2)})
    assert load(folder)[1].keys() == WEIGHTS.keys()


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX signal")
@pytest.mark.parametrize(("renames", "found"), [(0, 1), (1, 1)])
def test_a_kill_leaves_the_old_bundle_and_the_next_write_cleans_up(tmp_path, renames, found):
    write_bundle(tmp_path, "model.json", {"n": 1}, {"w": np.full(4, 1.0)})
    command = [sys.executable, "-c", KILLED_AT_RENAME, str(tmp_path), str(renames)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    values, tensors = read_bundle(tmp_path, "model.json")
    assert values == {"n": found}
    assert tensors["w"].tolist() == [found] * 4
    write_bundle(tmp_path, "model.json", {"n": 3}, {"w": np.full(4, 3.0)})
    assert len(list(tmp_path.iterdir())) == 2
    assert read_bundle(tmp_path, "model.json")[1]["w"].tolist() == [3.0] * 4


def test_two_bundles_share_a_folder(tmp_path):
    write_bundle(tmp_path, "one.json", {}, {"w": np.zeros(1)})
    write_bundle(tmp_path, "two.json", {}, {"w": np.ones(1)})
    assert read_bundle(tmp_path, "one.json")[1]["w"].tolist() == [0]


def flip_a_byte(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut_the_weights(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-10])


def remove_the_weights(folder: Path) -> None:
    (path,) = folder.glob("*.safetensors")
    path.unlink()


def make_the_weights_a_folder(folder: Path) -> None:
    remove_the_weights(folder)
    (folder / json.loads((folder / "model.json").read_text())["weights"]).mkdir()


def points_at(name: object):
    def damage(folder: Path) -> None:
        (folder.parent / "outside.safetensors").write_bytes(b"")
        edited(folder, weights=name)

    return damage


def header(**changes: object):
    return lambda folder: edited(folder, **changes)


def text(content: str):
    return lambda folder: (folder / "model.json").write_text(content)


DAMAGE = {
    "a flipped byte": (flip_a_byte, "does not match the hash"),
    "cut weights": (cut_the_weights, "does not match the hash"),
    "no weights": (remove_the_weights, "are missing"),
    "weights that are a folder": (make_the_weights_a_folder, "are missing"),
    "weights outside": (points_at("../outside.safetensors"), "names no weights beside it"),
    "weights at an absolute path": (points_at("/etc/passwd"), "names no weights beside it"),
    "weights by number": (points_at(7), "names no weights beside it"),
    "weights of another kind": (points_at("weights.bin"), "names no weights beside it"),
    "a newer format": (header(format=2), "model format 2; this version reads format 1"),
    "no format": (header(format=None), "model format None"),
    "an unknown key": (header(runs="os.system"), "unknown keys runs"),
    "no channels": (header(channels=0), "channels must be"),
    "a trillion channels": (header(channels=10**12), "channels must be"),
    "half a channel": (header(channels=2.5), "channels must be"),
    "truth as channels": (header(channels=True), "channels must be"),
    "stride of two axes": (header(stride=[1, 2]), "stride needs three"),
    "stride of nothing": (header(stride=[1, 0, 1]), "stride must be"),
    "halo of words": (header(halo=["a", "b", "c"]), "halo must be"),
    "an endless halo": (header(halo=[0, 10**9, 10**9]), "halo must be"),
    "preparation by name": (header(preparation="scale"), "preparation must be"),
    "preparation of numbers": (header(preparation=[1]), "list of steps"),
    "classes without values": (header(classes=[{"id": 1, "name": "a"}]), "value"),
    "classes of numbers": (header(classes=[5]), "no model header"),
    "a class below zero": (header(classes=[{"id": 1, "name": "a", "value": -1}]), "value of a class"),
    "a class of a line break": (header(classes=[{"id": 1, "name": "a\nb", "value": 1}]), "printable"),
    "twins": (header(classes=[{"id": n, "name": "a", "value": n} for n in (1, 2)]), "two classes"),
    "taught by words": (header(taught=["a.png"]), "no model header"),
    "a pixel without size": (header(pixel_size={"x": 0}), "pixel of 0"),
    "a pixel with a run": (header(pixel_size={"x": 1, "run": "x"}), "no model header"),
    "config as text": (header(config="x"), "config must be"),
    "not JSON": (text("{"), "not readable as JSON"),
    "a list": (text("[]"), "holds a JSON list"),
    "nothing": (text(""), "not readable as JSON"),
    "not a number": (text('{"format": NaN}'), "NaN is no JSON"),
    "deeply nested": (text('{"a":' + "[" * 200_000 + "]" * 200_000 + "}"), "not readable as JSON"),
    "an integer of many digits": (text('{"format": ' + "9" * 10_000 + "}"), "not readable as JSON"),
    "an empty object": (text("{}"), "model format None"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_one_clear_error_that_names_it(folder, name):
    damage, words = DAMAGE[name]
    damage(folder)
    with pytest.raises(BadFile, match=words) as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_missing_key_is_named(folder):
    values = json.loads((folder / "model.json").read_text())
    del values["stride"], values["outputs"]
    (folder / "model.json").write_text(json.dumps(values))
    with pytest.raises(BadFile, match=r"model\.json: is no model header \(missing keys outputs, stride\)"):
        header_of(folder)


def test_a_folder_without_a_model_and_none_at_all(tmp_path):
    with pytest.raises(BadFile, match=r"has no model\.json"):
        load(tmp_path)
    with pytest.raises(BadFile, match=r"gone: there is no such folder"):
        load(tmp_path / "gone")


def test_a_giant_header_is_not_read(folder):
    with open(folder / "model.json", "r+b") as file:
        file.truncate(MAX_JSON_BYTES + 1)  # sparse: takes no disk
    with pytest.raises(BadFile, match="larger than"):
        load(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are a POSIX thing")
def test_a_header_that_is_a_pipe_is_not_waited_for(folder):
    (folder / "model.json").unlink()
    os.mkfifo(folder / "model.json")
    with pytest.raises(BadFile):
        load(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(key=st.sampled_from(sorted(HEADER.to_json())), value=JSON)
def test_any_value_of_any_key_is_a_header_or_one_error(folder, key, value):
    save(folder, HEADER, WEIGHTS)
    edited(folder, **{key: value})
    try:
        found = json.loads(json.dumps(header_of(folder).to_json()))
    except BadFile as error:
        found, said = None, str(error)
    if found is None:
        assert said.startswith(str(folder))
    elif key != "pixel_size":  # its missing sides are filled with null
        assert found[key] == value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(data=st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_one_error(tmp_path, data):
    (tmp_path / "model.json").write_bytes(data)
    with pytest.raises(BadFile):
        load(tmp_path)
