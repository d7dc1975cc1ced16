"""What people said of the images: classes, answers, strokes, label tiles, points, and the files that carry them.

Names are resolved on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldmark.core.lazy import lazy

_PUBLIC = {
    "AnswerRecord": "fieldmark.labels.records",
    "ClassRecord": "fieldmark.labels.records",
    "ImportReport": "fieldmark.labels.records",
    "LabelPlane": "fieldmark.labels.drawing",
    "Labels": "fieldmark.labels.book",
    "PointRecord": "fieldmark.labels.records",
    "Polyline": "fieldmark.labels.raster",
    "Runs": "fieldmark.labels.raster",
    "StrokeRecord": "fieldmark.labels.records",
}
__all__ = sorted(_PUBLIC)

if TYPE_CHECKING:
    from fieldmark.labels.book import Labels as Labels
    from fieldmark.labels.drawing import LabelPlane as LabelPlane
    from fieldmark.labels.raster import Polyline as Polyline
    from fieldmark.labels.raster import Runs as Runs
    from fieldmark.labels.records import AnswerRecord as AnswerRecord
    from fieldmark.labels.records import ClassRecord as ClassRecord
    from fieldmark.labels.records import ImportReport as ImportReport
    from fieldmark.labels.records import PointRecord as PointRecord
    from fieldmark.labels.records import StrokeRecord as StrokeRecord

__getattr__, __dir__ = lazy(_PUBLIC, globals())
