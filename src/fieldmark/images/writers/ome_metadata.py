"""The metadata that makes a folder of zarr arrays an OME-Zarr image."""

from __future__ import annotations

from typing import Any

import numpy as np

from fieldmark.images.writers.plan import WritePlan

_TYPES = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
_COLORS = ("FF0000", "00FF00", "0000FF", "FFFF00", "FF00FF", "00FFFF", "FFFFFF")


def group_attributes(plan: WritePlan) -> dict[str, Any]:
    """The attributes of the image's group, for the plan's version."""
    old = plan.version == "0.4"
    stamp = {"version": plan.version} if old else {}
    name = plan.path.name.removesuffix(".zarr").removesuffix(".ome")
    image = {**stamp, "name": name, "axes": _axes(plan), "datasets": [_dataset(plan, i) for i in range(plan.levels)]}
    found: dict[str, Any] = {"multiscales": [image]}
    if plan.channel_names is not None and "c" in plan.axes:
        found["omero"] = {**stamp, "channels": _channels(plan)}
    if plan.label_names is not None:
        found["image-label"] = {**stamp, **_label(plan.label_names)}
    return found if old else {"ome": {"version": plan.version, **found}}


def _axes(plan: WritePlan) -> list[dict[str, str]]:
    def axis(name: str) -> dict[str, str]:
        known = _TYPES[name] == "space" and getattr(plan.pixel_size, name) is not None
        return {"name": name, "type": _TYPES[name], **({"unit": "micrometer"} if known else {})}

    return [axis(name) for name in plan.axes]


def _dataset(plan: WritePlan, level: int) -> dict[str, Any]:
    """Where a level is, and how its pixels lie: averaged pixels have their center between those averaged."""
    factor = 2**level
    sizes = [getattr(plan.pixel_size, axis, None) or 1.0 for axis in plan.axes]
    halved = [axis in "yx" for axis in plan.axes]
    scale = [size * (factor if half else 1) for size, half in zip(sizes, halved, strict=True)]
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if level and plan.label_names is None:
        shift = [size * (factor - 1) / 2 if half else 0.0 for size, half in zip(sizes, halved, strict=True)]
        steps.append({"type": "translation", "translation": shift})
    return {"path": str(level), "coordinateTransformations": steps}


def _channels(plan: WritePlan) -> list[dict[str, Any]]:
    top = float(np.iinfo(plan.dtype).max) if plan.dtype.kind in "iu" else 1.0
    window = {"min": 0.0, "max": top, "start": 0.0, "end": top}
    names = plan.channel_names or ()
    return [
        {"label": name, "color": _COLORS[i % len(_COLORS)], "active": True, "window": dict(window)}
        for i, name in enumerate(names)
    ]


def _label(names: dict[int, str]) -> dict[str, Any]:
    return {"properties": [{"label-value": int(value), "class": name} for value, name in sorted(names.items())]}
