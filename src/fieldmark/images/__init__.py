"""Pixels in and out: one lazy source for every format, writers, thumbnails.

An image is always seen in five axes, `tczyx` (`fieldmark.core.axes.AXES`); axes that a file
does not have are one pixel long. Names are resolved on first use, so that importing this
package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldmark.core.lazy import lazy

_PUBLIC = {
    "DEFAULT_MAX_BYTES": "fieldmark.images.source",
    "FORMAT_SUFFIX": "fieldmark.images.writers",
    "READERS": "fieldmark.images.readers",
    "ArraySource": "fieldmark.images.source",
    "FoundImages": "fieldmark.images.find",
    "ImageSource": "fieldmark.images.source",
    "ImageWriter": "fieldmark.images.writers",
    "create_writer": "fieldmark.images.writers",
    "decode_once": "fieldmark.images.decode",
    "encode_png": "fieldmark.images.png",
    "find_images": "fieldmark.images.find",
    "is_image_name": "fieldmark.images.readers",
    "open_image": "fieldmark.images.opening",
    "thumbnail": "fieldmark.images.thumbnails",
}
__all__ = sorted(_PUBLIC)

if TYPE_CHECKING:
    from fieldmark.images.decode import decode_once as decode_once
    from fieldmark.images.find import FoundImages as FoundImages
    from fieldmark.images.find import find_images as find_images
    from fieldmark.images.opening import open_image as open_image
    from fieldmark.images.png import encode_png as encode_png
    from fieldmark.images.readers import READERS as READERS
    from fieldmark.images.readers import is_image_name as is_image_name
    from fieldmark.images.source import DEFAULT_MAX_BYTES as DEFAULT_MAX_BYTES
    from fieldmark.images.source import ArraySource as ArraySource
    from fieldmark.images.source import ImageSource as ImageSource
    from fieldmark.images.thumbnails import thumbnail as thumbnail
    from fieldmark.images.writers import FORMAT_SUFFIX as FORMAT_SUFFIX
    from fieldmark.images.writers import ImageWriter as ImageWriter
    from fieldmark.images.writers import create_writer as create_writer

__getattr__, __dir__ = lazy(_PUBLIC, globals())
