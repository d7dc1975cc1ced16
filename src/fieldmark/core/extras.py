"""Optional packages: asked for by name, so that a missing one ends in the line that installs it."""

from __future__ import annotations

from importlib.util import find_spec

from fieldmark.errors import MissingExtra


def require_extra(module: str, extra: str, what: str = "") -> None:
    """Raise MissingExtra where an optional package is not installed. Imports nothing.

    Args:
        module: The package's top-level name, such as `nibabel`.
        extra: The extra that brings it, such as `nifti`.
        what: What needs it, for the message; the module if empty.
    """
    if find_spec(module) is None:
        raise MissingExtra(what or module, extra)
