"""What must be known to use a model without the code that trained it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from fieldmark.core.axes import PixelSize

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassSpec:
    """One class: its id in the project, its name, and the pixel value it is written as."""

    id: int
    name: str
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """An image that taught the model, and the hash of its content."""

    image: str
    content_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The whole of `model.json` but the name of the weights.

    Args:
        family: Name in the registry of model families.
        config: What the family's network is built from.
        preparation: Steps from raw pixels to what the network sees (see `fieldmark.prepare`).
        target_preparation: Steps that the images which it learned to paint went through; backwards for its answers.
        outputs: What the model gives: `classes`, `features`, `image`, `vector`.
        channels: Channels of an image.
        stride: Total downsampling along z, y, x, in pixels.
        halo: Receptive-field radius along z, y, x, in pixels.
        tile_exact: False where tiles are only reproducible on one grid anchored at the image.
        pixel_size: Of the images that taught it; None where unknown.
        classes: In the order of the model's outputs.
        taught: The images that taught it: they never score it.
        fingerprint: Hash of the recipe, the images and the labels.
        metrics: Numbers from training.
        details: What the report shows of the training, such as where each kernel came from.
        code_version: Version of Fieldmark that wrote the model.
    """

    family: str
    config: dict[str, Any]
    preparation: list[dict[str, Any]]
    outputs: tuple[str, ...]
    channels: int
    stride: tuple[int, int, int]
    halo: tuple[int, int, int]
    tile_exact: bool
    target_preparation: list[dict[str, Any]] = field(default_factory=list)
    pixel_size: PixelSize = field(default_factory=PixelSize)
    classes: tuple[ClassSpec, ...] = ()
    taught: tuple[Taught, ...] = ()
    fingerprint: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    code_version: str = ""
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Header:
        """The header of a JSON object. Raises TypeError or ValueError where it is none."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown keys {', '.join(unknown[:5])}")
        if missing := [name for name in _REQUIRED if name not in values]:
            raise ValueError(f"missing keys {', '.join(missing)}")
        for name, kind in _KINDS.items():
            if name in values and type(values[name]) is not kind:
                raise TypeError(f"{name} must be a JSON {kind.__name__}, not {type(values[name]).__name__}")
        return cls(**values | _parts(values))


_REQUIRED = ("family", "config", "preparation", "outputs", "channels", "stride", "halo", "tile_exact")
_KINDS: dict[str, type] = {
    "family": str,
    "config": dict,
    "preparation": list,
    "target_preparation": list,
    "outputs": list,
    "channels": int,
    "stride": list,
    "halo": list,
    "tile_exact": bool,
    "pixel_size": dict,
    "classes": list,
    "taught": list,
    "fingerprint": str,
    "metrics": dict,
    "details": dict,
    "code_version": str,
}
_MOST = 1 << 16
"""Strides and halos of any real model stay far below."""
MOST_CHANNELS = (1 << 24) - 1
"""A model of feature vectors has a channel for each feature: the flattened maps of an image may be millions."""


def _parts(values: dict[str, Any]) -> dict[str, Any]:
    """The parts of a header that JSON has no words for, each checked."""
    _int("channels", values["channels"], 1, MOST_CHANNELS + 1)
    if not all(isinstance(step, dict) for step in [*values["preparation"], *values.get("target_preparation", [])]):
        raise TypeError("preparation must be a list of steps")
    if not all(isinstance(output, str) for output in values["outputs"]):
        raise TypeError("outputs must be a list of words")
    classes = tuple(_class(item) for item in values.get("classes", []))
    if len({item.name for item in classes}) < len(classes) or len({item.value for item in classes}) < len(classes):
        raise ValueError("two classes have one name or one value")
    return {
        "pixel_size": _pixel_size(values.get("pixel_size", {})),
        "classes": classes,
        "taught": tuple(_taught(item) for item in values.get("taught", [])),
        "outputs": tuple(values["outputs"]),
        "stride": _three("stride", values["stride"], 1),
        "halo": _three("halo", values["halo"], 0),
    }


def _class(item: Any) -> ClassSpec:
    spec = ClassSpec(**item)
    _int("the id of a class", spec.id, 0, 1 << 63)
    _int("the value of a class", spec.value, 0, 1 << 32)
    if not isinstance(spec.name, str) or not spec.name or not spec.name.isprintable():
        raise ValueError("a class needs a name of printable characters")
    return spec


def _taught(item: Any) -> Taught:
    taught = Taught(**item)
    if not isinstance(taught.image, str) or not isinstance(taught.content_hash, str):
        raise TypeError("an image that taught has a name and a hash")
    return taught


def _pixel_size(item: dict[str, Any]) -> PixelSize:
    size = PixelSize(**item)
    for side in (size.z, size.y, size.x):
        if side is not None and (type(side) not in (int, float) or not 0 < side < math.inf):
            raise ValueError(f"a pixel of {side!r} micrometers")
    return size


def _three(name: str, values: list[Any], low: int) -> tuple[int, int, int]:
    if len(values) != 3:
        raise ValueError(f"{name} needs three numbers, for z, y and x")
    z, y, x = (_int(name, value, low) for value in values)
    return z, y, x


def _int(name: str, value: Any, low: int, most: int = _MOST) -> int:
    if type(value) is not int or not low <= value < most:
        raise ValueError(f"{name} must be a whole number from {low} to {most - 1}, not {str(value)[:40]}")
    return value
