"""What must be known to use a model without the code that trained it."""

from __future__ import annotations

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
        """The header of a JSON object; TypeError, KeyError or ValueError where it is none."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"unknown keys {unknown}")
        ready = dict(values)
        ready["pixel_size"] = PixelSize(**values.get("pixel_size", {}))
        ready["classes"] = tuple(ClassSpec(**item) for item in values.get("classes", []))
        ready["taught"] = tuple(Taught(**item) for item in values.get("taught", []))
        ready["outputs"] = tuple(values["outputs"])
        ready["stride"] = _three(values["stride"])
        ready["halo"] = _three(values["halo"])
        header = cls(**ready)
        _check(header)
        return header


def _three(values: Any) -> tuple[int, int, int]:
    z, y, x = (int(value) for value in values)
    return z, y, x


def _check(header: Header) -> None:
    if not isinstance(header.family, str) or not isinstance(header.config, dict):
        raise TypeError("family must be a name and config an object")
    if header.channels < 1 or min(header.stride) < 1 or min(header.halo) < 0:
        raise ValueError("channels and stride must be at least 1, halo at least 0")
    if not isinstance(header.preparation, list) or not all(isinstance(step, dict) for step in header.preparation):
        raise TypeError("preparation must be a list of steps")
