"""Volumes compared plane by plane along an orientation, or whole; tables of it as microDL writes them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fieldmark.core.files import write_atomic
from fieldmark.errors import NotFound
from fieldmark.evaluate.images import METRICS, require_one_shape, score_values

if TYPE_CHECKING:
    from pathlib import Path

ORIENTATIONS = ("xy", "xz", "yz", "xyz")
_ACROSS = {"xy": 0, "xz": 1, "yz": 2}
"""The axis of (z, y, x) along which planes of an orientation follow each other."""

Row = dict[str, str | float | None]
"""A line of a table: `pred_name`, metrics and, with a mask, `vol_frac` and the metrics within it, `*_masked`."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What is measured, and how."""

    metrics: tuple[str, ...] = METRICS
    threshold: float | None = None
    """See `score_values`."""


def require_orientation(name: str) -> str:
    """The name of an orientation. Raises NotFound where it is none."""
    if name not in ORIENTATIONS:
        raise NotFound("orientation", name, ORIENTATIONS)
    return name


def views(volume: np.ndarray, orientation: str, first: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Planes of a volume with what their names end in, such as `_xz12`; the volume itself for `xyz`.

    Args:
        volume: (z, y, x).
        orientation: One of `ORIENTATIONS`.
        first: The number of the first plane.
    """
    if require_orientation(orientation) == "xyz":
        yield "", volume
        return
    axis = _ACROSS[orientation]
    for place in range(volume.shape[axis]):
        yield f"_{orientation}{first + place}", volume.take(place, axis)


def score_volume(
    name: str,
    prediction: np.ndarray,
    truth: np.ndarray,
    orientation: str,
    *,
    mask: np.ndarray | None = None,
    measure: Measure | None = None,
    first: int = 0,
) -> Iterator[Row]:
    """A row for each plane, or one for the whole.

    Args:
        name: Of the prediction; rows are called by it and their plane.
        prediction: (z, y, x) real.
        truth: (z, y, x) real.
        orientation: One of `ORIENTATIONS`.
        mask: (z, y, x) bool; where it is given, each metric is there twice: over all pixels and over the mask's.
        measure: All metrics where None.
        first: The number of the first slice; other planes are counted from 0.

    Raises:
        NotFound: An unknown orientation or metric.
        BadInput: As `score_values`.
    """
    measure = measure or Measure()
    # planes alone would not tell: one volume may have more of them than the other
    require_one_shape(prediction, truth, mask)
    masks = iter([None] * max(truth.shape)) if mask is None else (part for _, part in views(mask, orientation))
    said = views(prediction, orientation, first if orientation == "xy" else 0)
    right = views(truth, orientation)
    for (ending, a), (_, b), inside in zip(said, right, masks, strict=False):
        yield {"pred_name": name + ending, **_both(a, b, inside, measure)}


def _both(prediction: np.ndarray, truth: np.ndarray, mask: np.ndarray | None, measure: Measure) -> Row:
    options = {"metrics": measure.metrics, "threshold": measure.threshold}
    row: Row = dict(score_values(prediction, truth, **options))  # type: ignore[arg-type]
    if mask is not None:
        row["vol_frac"] = float(mask.mean())
        masked = score_values(prediction, truth, mask=mask, **options)  # type: ignore[arg-type]
        row |= {f"{metric}_masked": value for metric, value in masked.items()}
    return row


def mean_row(rows: Sequence[Row]) -> dict[str, float | None]:
    """The mean of each column over the rows that have it; None where none has."""
    columns = [column for column in (rows[0] if rows else {}) if column != "pred_name"]
    found: dict[str, float | None] = {}
    for column in columns:
        values = [value for row in rows if isinstance(value := row[column], float)]
        found[column] = float(np.mean(values)) if values else None
    return found


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """A CSV table, whole or not at all; what does not exist is an empty field."""
    text = io.StringIO()
    columns = [column for column in (rows[0] if rows else {"pred_name": ""}) if column != "pred_name"]
    writer = csv.DictWriter(text, ["pred_name", *columns], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue().encode())
