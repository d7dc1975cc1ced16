"""Public names of a package, imported on first use, so that importing the package costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy(names: Mapping[str, str], package: dict[str, Any]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package; a name that was found stays in the package.

    Args:
        names: For each public name the module that defines it, as a literal dict of the package.
        package: The package's `globals()`.
    """

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {package['__name__']!r} has no attribute {name!r}")
        value = package[name] = getattr(import_module(names[name]), name)
        return value

    def known() -> list[str]:
        return sorted({*package, *names})

    return find, known
