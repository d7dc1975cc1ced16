"""A project on disk and its verbs. Every face calls these; no rule stands in a face."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["Workbench"]

if TYPE_CHECKING:
    from fieldmark.workbench.bench import Workbench


def __getattr__(name: str) -> Any:
    if name != "Workbench":
        raise AttributeError(f"module 'fieldmark.workbench' has no attribute {name!r}")
    from fieldmark.workbench.bench import Workbench

    return Workbench
