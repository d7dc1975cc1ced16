"""Estimators for arrays in a notebook, in scikit-learn's manner. Names are resolved on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["FLIM"]

if TYPE_CHECKING:
    from fieldmark.estimators.flim import FLIM


def __getattr__(name: str) -> Any:
    if name != "FLIM":
        raise AttributeError(f"module 'fieldmark.estimators' has no attribute {name!r}")
    from fieldmark.estimators.flim import FLIM

    return FLIM
