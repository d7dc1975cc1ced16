"""Fieldmark: label-efficient learning on collections of scientific images.

The public names are resolved on first use, so that `import fieldmark` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "FLIM": "fieldmark.estimators.flim",
    "FieldmarkError": "fieldmark.errors",
    "Workbench": "fieldmark.workbench",
    "open_image": "fieldmark.images",
}
__all__ = ["FLIM", "FieldmarkError", "Workbench", "open_image"]

if TYPE_CHECKING:
    from fieldmark.errors import FieldmarkError
    from fieldmark.estimators.flim import FLIM
    from fieldmark.images import open_image
    from fieldmark.workbench import Workbench


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'fieldmark' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
