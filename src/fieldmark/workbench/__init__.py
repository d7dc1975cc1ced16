"""A project on disk and its verbs. Every face calls these; no rule stands in a face."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldmark.core.lazy import lazy

_PUBLIC = {"Workbench": "fieldmark.workbench.bench"}
__all__ = ["Workbench"]

if TYPE_CHECKING:
    from fieldmark.workbench.bench import Workbench

__getattr__, __dir__ = lazy(_PUBLIC, globals())
