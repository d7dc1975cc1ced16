"""Fieldmark: label-efficient learning on collections of scientific images.

The public names are resolved on first use, so that `import fieldmark` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldmark.core.lazy import lazy

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

__getattr__, __dir__ = lazy(_PUBLIC, globals())
