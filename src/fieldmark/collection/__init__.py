"""Which images there are: the catalog, importers, groups, splits, and images that moved.

Names are resolved on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldmark.core.lazy import lazy

_PUBLIC = {
    "AddReport": "fieldmark.collection.records",
    "Collection": "fieldmark.collection.catalog",
    "ImageRecord": "fieldmark.collection.records",
    "MovedImage": "fieldmark.collection.records",
    "PlannedImage": "fieldmark.collection.importers",
}
__all__ = sorted(_PUBLIC)

if TYPE_CHECKING:
    from fieldmark.collection.catalog import Collection as Collection
    from fieldmark.collection.importers import PlannedImage as PlannedImage
    from fieldmark.collection.records import AddReport as AddReport
    from fieldmark.collection.records import ImageRecord as ImageRecord
    from fieldmark.collection.records import MovedImage as MovedImage

__getattr__, __dir__ = lazy(_PUBLIC, globals())
