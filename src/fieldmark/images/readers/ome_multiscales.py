"""The multiscales metadata of OME-Zarr, checked and turned into what a reader needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from fieldmark.core.axes import AXES
from fieldmark.errors import BadFile
from fieldmark.images.source import is_subset
from fieldmark.images.units import micrometers

_MOST_LEVELS = 64
_AGAIN = "Export the image again."


@dataclass(frozen=True, slots=True)
class Multiscale:
    """One image and its levels.

    Args:
        axes: The axes of every level, in `tczyx` order.
        units: The unit of each axis; empty where there is none.
        datasets: The path of each level inside the folder, and its scale along each axis.
    """

    axes: str
    units: tuple[str, ...]
    datasets: tuple[tuple[str, tuple[float, ...]], ...]

    def pixel_size(self) -> dict[str, float | None]:
        """Micrometers along z, y and x of the full level; None where the metadata does not say."""
        scale = self.datasets[0][1] or (0.0,) * len(self.axes)
        along = zip(self.axes, scale, self.units, strict=True)
        return {axis: micrometers(size, unit) for axis, size, unit in along if axis in "zyx"}


def parse_multiscales(found: Any, shown: str) -> Multiscale:
    """The first image of a `multiscales` list.

    Raises:
        BadFile: It is no list of images, its axes are not among `tczyx` in that order, or a level's
            path leads out of the folder.
    """
    first = found[0] if isinstance(found, list) and found else None
    if not isinstance(first, dict):
        raise BadFile(shown, f"its multiscales metadata holds no image. {_AGAIN}")
    axes, units = _axes(first.get("axes", list(AXES)), shown)
    datasets = first.get("datasets")
    if not isinstance(datasets, list) or not 0 < len(datasets) <= _MOST_LEVELS:
        raise BadFile(shown, f"its multiscales metadata lists no levels, or more than {_MOST_LEVELS}. {_AGAIN}")
    whole = _scale(first, len(axes), shown)
    levels = tuple(_dataset(entry, len(axes), whole, shown) for entry in datasets)
    return Multiscale(axes, units, levels)


def _axes(found: Any, shown: str) -> tuple[str, tuple[str, ...]]:
    entries = [{"name": axis} if isinstance(axis, str) else axis for axis in found] if isinstance(found, list) else []
    if not entries or not all(isinstance(axis, dict) for axis in entries):
        raise BadFile(shown, f"its axes metadata is no list of axes. {_AGAIN}")
    names = [str(axis.get("name", "")) for axis in entries]
    axes = "".join(names)
    if max(map(len, names)) != 1 or not is_subset(axes) or not axes.endswith("yx"):
        raise BadFile(shown, f"its axes are {names}; they must be some of {list(AXES)}, in that order, with y and x.")
    return axes, tuple(str(axis.get("unit") or "") for axis in entries)


def _dataset(entry: Any, ndim: int, whole: tuple[float, ...], shown: str) -> tuple[str, tuple[float, ...]]:
    path = entry.get("path") if isinstance(entry, dict) else None
    parts = PurePosixPath(path).parts if isinstance(path, str) else ()
    if not parts or any(part in {"/", "//", ".."} or "\\" in part or "\0" in part for part in parts):
        raise BadFile(shown, f"a level's path is {path!r}; it must name a folder inside the image's own. {_AGAIN}")
    scale = _scale(entry, ndim, shown)
    both = tuple(a * b for a, b in zip(scale, whole, strict=True)) if scale and whole else scale or whole
    return "/".join(parts), both


def _scale(entry: dict[str, Any], ndim: int, shown: str) -> tuple[float, ...]:
    """The scale along each axis that an entry's transformations name; empty where there is none."""
    steps = entry.get("coordinateTransformations") or []
    if not isinstance(steps, list):
        raise BadFile(shown, f"its coordinate transformations are no list. {_AGAIN}")
    for step in steps:
        scale = step.get("scale") if isinstance(step, dict) and step.get("type") == "scale" else None
        if scale is None:
            continue
        if not isinstance(scale, list) or len(scale) != ndim or not all(isinstance(s, (int, float)) for s in scale):
            raise BadFile(shown, f"a level's scale is {scale!r}; it must be {ndim} numbers. {_AGAIN}")
        return tuple(float(s) for s in scale)
    return ()
