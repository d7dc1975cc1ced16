"""PNG bytes of small arrays: thumbnails, figures, tiles for the page."""

from __future__ import annotations

from typing import cast

import numpy as np

from fieldmark.errors import BadInput


def encode_png(array: np.ndarray, *, level: int | None = None) -> bytes:
    """The PNG file of an image.

    Args:
        array: (h, w) gray, or (h, w, 3) RGB or (h, w, 4) RGBA; uint8 or uint16.
        level: How hard it is compressed, 0 to 9; the library's own where None.

    Raises:
        BadInput: Another shape or type, or no pixels.
    """
    import imagecodecs

    gray_or_color = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in {3, 4})
    if array.dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)} or not gray_or_color or array.size == 0:
        raise BadInput(
            f"PNG holds (h, w), (h, w, 3) or (h, w, 4) of uint8 or uint16; found {array.shape} {array.dtype}. "
            "Convert the array first."
        )
    return cast(bytes, imagecodecs.png_encode(np.ascontiguousarray(array), level=level))
