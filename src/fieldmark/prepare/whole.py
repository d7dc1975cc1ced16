"""What only a whole image knows, read piece by piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fieldmark.images import ImageSource


def image_maximum(source: ImageSource) -> float:
    """The largest magnitude among all pixels of an image; memory follows the piece, time the image."""
    from fieldmark.images.decode import pieces

    return max(float(np.abs(source.read(box)).max()) for box in pieces(source))
