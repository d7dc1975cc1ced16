"""`constraints.txt` holds every package that an installation brings, at the version that is installed."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {normal(name): version for name, version in pairs}


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    return {normal(r.name): r for r in map(Requirement, texts)}


def found(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def needed_by(requirement: Requirement) -> list[Requirement]:
    """What an installed package requires here, with the extras that were asked for."""
    installed = found(requirement.name)
    inner = map(Requirement, (installed.requires or []) if installed else [])
    extras = requirement.extras or {""}
    return [r for r in inner if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in extras)]


def installed_closure() -> dict[str, Distribution]:
    """Every installed package that Fieldmark or its extras need, directly or through others."""
    todo, seen, reached = list(declared().values()), set(), {}
    while todo:
        requirement = todo.pop()
        key = (normal(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        if package := found(requirement.name):
            reached[key[0]] = package
            todo += needed_by(requirement)
    return reached


def test_every_declared_package_has_a_pin_that_it_allows() -> None:
    known = pins()
    for name, requirement in declared().items():
        assert name in known, f"{name} is declared in pyproject.toml and has no pin in constraints.txt"
        assert requirement.specifier.contains(known[name])


def test_every_installed_package_that_we_need_is_pinned() -> None:
    known = pins()
    unpinned = sorted(name for name in installed_closure() if name not in known)
    assert not unpinned, f"add to constraints.txt: {', '.join(unpinned)}"


def test_what_is_installed_is_what_is_pinned() -> None:
    known = pins()
    other = {n: (p.version, known[n]) for n, p in installed_closure().items() if n in known}
    different = {n: pair for n, pair in other.items() if Version(pair[0]).public != Version(pair[1]).public}
    assert not different, f"installed, pinned: {different}; install with -c constraints.txt"


def test_pins_are_sorted_and_exact() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[a-z0-9.]+", line) for line in lines)
    assert [line.split("==")[0] for line in lines] == sorted(pins())
