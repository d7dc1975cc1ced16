"""Numbers of whole images: one row an image, never tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput, InputMismatch
from fieldmark.infer.answers import MOST_PIXELS, require_whole, whole_tensor
from fieldmark.infer.device import device_of
from fieldmark.infer.forward import fit_to_net, require_numbers
from fieldmark.models.layout import channels_last, lay_channels_last
from fieldmark.prepare import Whole, apply, inverse

if TYPE_CHECKING:
    import numpy as np

    from fieldmark.images import ImageSource
    from fieldmark.infer.predict import Model
    from fieldmark.models.base import Net


def require_seen(net: Net, shape: tuple[int, ...], image: str) -> None:
    """Raise BadInput where an image (t, c, z, y, x) cannot be seen whole."""
    t, _, z, y, x = shape
    if net.spatial == 2:
        require_whole(shape, image)
    elif t > 1 or z * y * x > MOST_PIXELS:
        raise BadInput(
            f"{image} has {t} times of {z} x {y} x {x} pixels; volumes are seen whole, one time and up to "
            f"{MOST_PIXELS} pixels. Write the times as images, or make them smaller."
        )


def whole_input(net: Net, source: ImageSource, preparation: list[dict[str, Any]], image: str) -> torch.Tensor:
    """(1, C, (z,) Y, X) float32: what a network sees of a whole image, resized where it asks for that."""
    box = Box.whole(source.shape)
    pixels: np.ndarray = source.read(box)[0]
    require_numbers(pixels, image, preparation)
    if net.spatial == 2:
        seen = whole_tensor(pixels[:, 0], preparation, size=getattr(net, "size", None), stride=1)[0].numpy()
    else:
        place = Box((0, 0, 0, 0), (1, *source.shape[2:]))
        seen = apply(pixels, Whole(lambda: source).at(preparation, place))
    return torch.from_numpy(fit_to_net(seen, net))[None]


def number_row(model: Model, source: ImageSource, image: str) -> np.ndarray:
    """The numbers (D,) of an image, in the units of what taught them, float32.

    Images are seen one by one: a row does not depend on what else is asked.
    """
    if source.shape[1] != model.header.channels:
        raise InputMismatch(model=model.name, expected=model.header.channels, found=source.shape[1], image=image)
    net = model.net.eval()
    require_seen(net, source.shape, image)
    seen = whole_input(net, source, model.header.preparation, image).to(device_of(net))
    if net.spatial == 2:
        lay_channels_last(net)
        seen = channels_last(seen)
    with torch.inference_mode():
        row = net.answer(seen, "numbers")[0].cpu().numpy()
    steps = model.header.target_preparation
    back: np.ndarray = apply(row[:, None, None], inverse(steps))[:, 0, 0] if steps else row
    return back


def names_of(model: Model) -> list[str]:
    """What the numbers of a row are called."""
    names = model.header.details.get("numbers")
    count = int(getattr(model.net, "out_channels", 0))
    if not isinstance(names, list) or len(names) != count:
        return [f"number {place}" for place in range(1, count + 1)]
    return [str(name) for name in names]
