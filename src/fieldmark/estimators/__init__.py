"""Estimators for arrays in a notebook, in scikit-learn's manner. Names are resolved on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldmark.core.lazy import lazy

_PUBLIC = {"FLIM": "fieldmark.estimators.flim"}
__all__ = ["FLIM"]

if TYPE_CHECKING:
    from fieldmark.estimators.flim import FLIM

__getattr__, __dir__ = lazy(_PUBLIC, globals())
