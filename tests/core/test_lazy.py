"""Public names are imported when they are asked for, once."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

import fieldmark
from fieldmark.core.lazy import lazy

PACKAGES = sorted(
    ".".join(["fieldmark", *path.parent.relative_to(Path(fieldmark.__file__).parent).parts])
    for path in Path(fieldmark.__file__).parent.rglob("__init__.py")
    if "lazy(_PUBLIC" in path.read_text()
)


def test_a_name_is_looked_up_once_and_stays():
    package = {"__name__": "a.b"}
    find, known = lazy({"dumps": "json"}, package)
    assert "dumps" in known()
    assert "dumps" not in package
    assert find("dumps") is json.dumps
    assert package["dumps"] is json.dumps
    assert known().count("dumps") == 1


def test_an_unknown_name_is_said_as_python_says_it():
    find, _ = lazy({}, {"__name__": "a.b"})
    with pytest.raises(AttributeError, match=r"module 'a\.b' has no attribute 'c'"):
        find("c")


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_of_a_package_is_there_and_listed(name):
    package = import_module(name)
    assert sorted(package.__all__) == sorted(package._PUBLIC)
    assert set(package.__all__) <= set(dir(package))
    for public in package.__all__:
        assert getattr(package, public) is getattr(sys.modules[package._PUBLIC[public]], public)


def test_the_packages_are_found():
    assert {"fieldmark", "fieldmark.images", "fieldmark.store", "fieldmark.workbench"} <= set(PACKAGES)
