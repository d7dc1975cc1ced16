"""Seeds, fingerprints and the registry: names that must mean the same everywhere."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.fingerprint import file_hash, fingerprint
from fieldmark.core.registry import Entry, Registry
from fieldmark.core.seeds import derive_seed
from fieldmark.errors import MissingExtra, NotFound

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("path", "seed"),
    [
        ((), 3456079177858693020),
        (("descend", 3), 739823871701071649),
        (("crop", 0, 17), 3448024301034671213),
    ],
)
def test_seeds_are_golden(path, seed):
    """A change here changes every model that was ever fitted."""
    text = "/".join(["0", *(f"{type(part).__name__}:{part}" for part in path)])
    assert derive_seed(0, *path) == seed == int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) // 2


def test_seeds_tell_paths_apart():
    paths = [(), ("a",), ("a", 1), ("a", "1"), (1,), ("1",), ("a/str:b",), ("b", "a"), ("a", "b")]
    seeds = {derive_seed(s, *path) for s in (0, 1) for path in paths}
    assert len(seeds) == 2 * len(paths)
    assert all(0 <= seed < 2**63 for seed in seeds)


@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=5))
def test_a_fingerprint_does_not_know_the_order_of_keys(values):
    turned = dict(reversed(list(values.items())))
    assert fingerprint(values) == fingerprint(turned)
    assert fingerprint(json.loads(json.dumps(values))) == fingerprint(values)


@given(VALUES, VALUES)
def test_fingerprints_tell_values_apart(a, b):
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert (fingerprint(a) == fingerprint(b)) == same


def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    data = bytes(range(256)) * 9000
    (tmp_path / "a").write_bytes(data)
    assert file_hash(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_the_hash_of_a_folder_knows_names_and_places(tmp_path):
    def folder(name, files):
        for file, data in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return file_hash(tmp_path / name)

    one = folder("one", {"a": b"x", "sub/b": b"y"})
    assert one == folder("two", {"sub/b": b"y", "a": b"x"})
    others = [
        {"a": b"x", "b": b"y"},
        {"a": b"y", "sub/b": b"x"},
        {"a": b"x", "sub/b": b"y", "c": b""},
        {"a": b"xsub/b"},
    ]
    assert len({one, *(folder(f"o{n}", files) for n, files in enumerate(others))}) == 5


def registry() -> Registry:
    return Registry(
        "thing",
        {
            "json": Entry("json:dumps", "Writes", config="json:JSONDecodeError"),
            "gone": Entry("no_such_package_xyz:thing", "Missing", needs="sam"),
            "broken": Entry("no_such_package_xyz:thing", "Missing, and nothing would help"),
            "ours": Entry("fieldmark.no_such_room:thing", "Our own mistake", needs="sam"),
        },
    )


def test_a_registry_lists_in_order_and_loads_one():
    things = registry()
    assert [name for name, _ in things] == ["broken", "gone", "json", "ours"]
    assert "json" in things
    assert "yaml" not in things
    assert things.load("json") is json.dumps
    assert things.load_config("json") is json.JSONDecodeError


def test_a_registry_says_what_is_near():
    with pytest.raises(NotFound, match=r"No thing is called 'jsn'\. Did you mean 'json'\?"):
        registry().load("jsn")


def test_a_missing_package_names_its_extra_and_our_own_mistakes_do_not():
    with pytest.raises(MissingExtra, match=r"thing 'gone' needs .*fieldmark\[sam\]"):
        registry().load("gone")
    for name in ("broken", "ours"):
        with pytest.raises(ModuleNotFoundError) as caught:
            registry().load(name)
        assert not isinstance(caught.value, MissingExtra)


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="'json' is already registered"):
        registry().add("json", Entry("json:loads", "Reads"))


def test_listing_the_families_imports_none():
    script = (
        "import sys; from fieldmark.recipes.registry import FAMILIES; names = [n for n, _ in FAMILIES];"
        "assert names and 'torch' not in sys.modules and 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
