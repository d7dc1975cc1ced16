"""Public names are imported when they are asked for, once."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import fieldmark
from fieldmark.core.lazy import lazy

ROOMS = sorted(
    path.parent.name
    for path in Path(fieldmark.__file__).parent.glob("*/__init__.py")
    if "lazy(_PUBLIC" in path.read_text()
)
TABLE = {"dumps": "json"}
NOTHING: dict[str, str] = {}


def test_a_name_is_looked_up_once_and_stays():
    package = {"__name__": "a.b"}
    find, known = lazy(TABLE, package)
    assert "dumps" in known()
    assert "dumps" not in package
    assert find("dumps") is json.dumps
    assert package["dumps"] is json.dumps
    assert known().count("dumps") == 1


def test_an_unknown_name_is_said_as_python_says_it():
    find, _ = lazy(NOTHING, {"__name__": "a.b"})
    with pytest.raises(AttributeError, match=r"module 'a\.b' has no attribute 'c'"):
        find("c")


def check(package: ModuleType) -> None:
    assert sorted(package.__all__) == sorted(package._PUBLIC)
    assert set(package.__all__) <= set(dir(package))
    for public in package.__all__:
        assert getattr(package, public) is getattr(sys.modules[package._PUBLIC[public]], public)


@pytest.mark.parametrize("name", ROOMS)
def test_every_public_name_of_a_room_is_there_and_listed(name):
    check(import_module(f"fieldmark.{name}"))


def test_every_public_name_of_the_whole_is_there_and_listed():
    check(fieldmark)


def test_the_rooms_are_found():
    assert {"images", "store", "workbench"} <= set(ROOMS)
