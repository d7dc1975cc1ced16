"""The size of a pixel, from the several places where TIFF files note it."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

from fieldmark.core.axes import PixelSize
from fieldmark.errors import BadFile
from fieldmark.images.units import micrometers

_CENTIMETER, _INCH = 3, 2
_PRINTING = 1200.0
"""Dots per inch up to which an inch resolution is meant for a printer, not for a microscope."""


def read_pixel_size(tif: Any, shown: str) -> PixelSize:
    """The pixel size that a TIFF file notes, from its OME-XML, ImageJ or Aperio description, or resolution tags."""
    page = tif.pages.first
    if tif.is_ome:
        return _from_ome(tif.ome_metadata or "", shown)
    if tif.is_imagej:
        return _from_imagej(tif.imagej_metadata or {}, page)
    if mpp := re.search(r"\|\s*MPP\s*=\s*([\d.]+)", page.description or ""):
        return PixelSize(y=float(mpp[1]) or None, x=float(mpp[1]) or None)
    return _from_tags(page)


def check_ome(xml: str, shown: str) -> None:
    """Refuse OME-XML that reaches outside the file or that is no plain XML.

    Raises:
        BadFile: It declares entities, cannot be parsed, or spreads the image over several files.
    """
    files = {(e.text or "").strip() for e in parse_ome(xml, shown).iter() if e.tag.endswith("}UUID") or e.tag == "UUID"}
    if len(files) > 1:
        raise BadFile(
            shown,
            f"it is one of {len(files)} files that make one OME-TIFF image. Save it as one file, or as OME-Zarr.",
        )


def parse_ome(xml: str, shown: str) -> ET.Element:
    """The root element of OME-XML, which has no document type and so no entities to expand."""
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise BadFile(shown, "its OME-XML declares a document type, which OME-XML never does. Export it again.")
    try:
        return ET.fromstring(xml)  # noqa: S314 -- no document type, so no entities
    except (ET.ParseError, ValueError) as error:
        raise BadFile(shown, f"its OME-XML cannot be read ({error}). Export it again.") from error


def _from_ome(xml: str, shown: str) -> PixelSize:
    pixels = next((e for e in parse_ome(xml, shown).iter() if e.tag.rpartition("}")[2] == "Pixels"), None)
    if pixels is None:
        return PixelSize()

    def along(axis: str) -> float | None:
        size = pixels.get(f"PhysicalSize{axis}")
        return micrometers(size, pixels.get(f"PhysicalSize{axis}Unit", "µm")) if size else None

    return PixelSize(z=along("Z"), y=along("Y"), x=along("X"))


def _from_imagej(notes: dict[str, Any], page: Any) -> PixelSize:
    unit = str(notes.get("unit", ""))
    if micrometers(1, unit) is None:
        return PixelSize()

    def along(tag: str) -> float | None:
        dots = _resolution(page, tag)
        return micrometers(1 / dots, unit) if dots else None

    depth = notes.get("spacing")
    return PixelSize(z=micrometers(depth, unit) if depth else None, y=along("YResolution"), x=along("XResolution"))


def _from_tags(page: Any) -> PixelSize:
    """From XResolution and YResolution: per centimeter as they stand, per inch unless it is a printer's."""
    unit = page.tags.valueof("ResolutionUnit", _INCH)
    x, y = _resolution(page, "XResolution"), _resolution(page, "YResolution")
    if not x or not y:
        return PixelSize()
    if unit == _CENTIMETER:
        return PixelSize(y=1e4 / y, x=1e4 / x)
    if unit == _INCH and min(x, y) > _PRINTING:
        return PixelSize(y=25_400 / y, x=25_400 / x)
    return PixelSize()


def _resolution(page: Any, tag: str) -> float | None:
    """Pixels per unit; None where the tag is missing or zero."""
    value = page.tags.valueof(tag)
    if not isinstance(value, tuple) or len(value) != 2 or not value[0] or not value[1]:
        return None
    return float(value[0]) / float(value[1])
