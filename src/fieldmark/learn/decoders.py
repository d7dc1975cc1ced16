"""Fit an adaptive decoder: little is learned, most is decided by each image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from fieldmark.core.seeds import derive_seed
from fieldmark.errors import BadInput, NotFound
from fieldmark.infer.forward import fit_to_net
from fieldmark.infer.tiles import plan_tiles
from fieldmark.learn.solvers import fit_logistic
from fieldmark.learn.views import stroke_weights, view_columns
from fieldmark.models.decoders import AdaptiveHead
from fieldmark.models.heads import PooledHead, enlarge
from fieldmark.models.tally import Tally

if TYPE_CHECKING:
    from fieldmark.core.geometry import Tile
    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net
    from fieldmark.recipes import HeadConfig

TILE = 512


def fit_decoder(net: Net, samples: Samples, config: HeadConfig, seed: int) -> dict[str, float]:
    """Set `net.head` to the decoder that the recipe names.

    Raises BadInput where the network or the classes do not suit it, NotFound for an unknown background.
    """
    level = decoded_level(net, config)
    if config.decoder == "trained":
        net.head = _trained(net, samples, config, level, seed)
        return {"level": float(level)}
    background = _background(samples, config)
    if config.decoder == "vanilla" and samples.classes > 2:
        raise BadInput(
            f"The vanilla decoder tells one object from the background, and there are {samples.classes} classes. "
            "Choose head.decoder=mean, probabilistic, labelled or trained."
        )
    head = AdaptiveHead(config.decoder, level, samples.classes, background, _threshold(config))
    if config.decoder in ("probabilistic", "mean"):
        head.kernel_class = _kernel_classes(net, level, config)
    if config.decoder == "labelled":
        maps, classes = _stretched_marks(net, samples, config, level, seed)
        head.importance = torch.from_numpy(importance(maps, classes, samples.classes).astype(np.float32))
    net.head = head
    return {"level": float(level), "kernels": float(len(head.kernel_class) or head.importance.shape[-1])}


def _threshold(config: HeadConfig) -> str:
    if config.threshold != "auto":
        return config.threshold
    return "half" if config.decoder in ("probabilistic", "mean") else "otsu"


def importance(maps: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """How much each map speaks for each class.

    The mean over the class's marks of a, and over all other marks of 1 - a, minus the mean
    over the maps: a map that is bright on the class and dark elsewhere is above zero. The
    original takes sums (so that many marks of one class drown another's) and 1 minus the sum.

    Args:
        maps: (N, K) values at the marks, stretched to 0..1 over their images.
        classes: (N,) of the marks.
        count: Classes; one without marks has importance 0 everywhere.

    Returns:
        (count, K) float64.
    """
    found = np.zeros((count, maps.shape[1]))
    for klass in np.unique(classes):
        own = classes == klass
        found[klass] = maps[own].mean(axis=0, dtype=np.float64)
        if not own.all():
            found[klass] += (1 - maps[~own]).mean(axis=0, dtype=np.float64)
        found[klass] -= found[klass].mean()
    return found


def decoded_level(net: Net, config: HeadConfig) -> int:
    """The place of the level that is decoded. Raises BadInput where the network has no such level."""
    with torch.inference_mode():
        count = len(net.levels(torch.zeros(1, net.channels, *net.least)))
    if config.level is None:
        return next(reversed(net.kernel_classes()), count - 1)
    if config.level >= count:
        raise BadInput(f"head.level is {config.level}, but the network's levels are 0 to {count - 1}. Choose one.")
    return config.level


def _background(samples: Samples, config: HeadConfig) -> int:
    if config.background is None:
        return 0
    if config.background not in samples.class_names:
        raise NotFound("class", config.background, samples.class_names)
    return samples.class_names.index(config.background)


def _kernel_classes(net: Net, level: int, config: HeadConfig) -> torch.Tensor:
    known = net.kernel_classes()
    classes = known.get(level)
    if classes is None or len(classes) == 0:
        raise BadInput(
            f"The {config.decoder} decoder needs kernels that come from strokes, and level {level} has none. "
            f"Choose a FLIM layer with head.level ({', '.join(map(str, known)) or 'none here'}), "
            "or head.decoder=vanilla, labelled or trained."
        )
    return classes.clone()


def _trained(net: Net, samples: Samples, config: HeadConfig, level: int, seed: int) -> PooledHead:
    """A 1x1 convolution to classes, solved as a multinomial logistic regression on the marks."""
    from fieldmark.learn.pixel_head import marked_features, thin_marks

    rows = thin_marks(samples, config.max_pixels_per_stroke, seed)
    features, widths = marked_features(net, samples, rows)
    own, marks = features[:, view_columns(widths, [level])], samples.marks.where(rows)
    weights = stroke_weights(marks.klass, marks.stroke)
    member = fit_logistic(own, marks.klass, weights, samples.classes, config, derive_seed(seed, "decoder"))
    head = PooledHead([[level]], [member])
    head.weights = torch.ones(1)
    return head


def _stretched_marks(
    net: Net, samples: Samples, config: HeadConfig, level: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) maps under the marks, each stretched to 0..1 over its plane, and the (N,) classes of the marks."""
    from fieldmark.learn.pixel_head import marked_features, thin_marks

    rows = thin_marks(samples, config.max_pixels_per_stroke, seed)
    features, widths = marked_features(net, samples, rows)
    own, marks = features[:, view_columns(widths, [level])], samples.marks.where(rows)
    planes = np.column_stack([marks.image, marks.place[:, : 4 - net.spatial]])
    for plane in np.unique(planes, axis=0):
        inside = (planes == plane).all(axis=1)
        tally = _tally_plane(net, samples, plane, level)
        span = np.where(tally.span > 0, tally.span, 1.0)
        own[inside] = (own[inside] - tally.low) / span
    return own, marks.klass


def _tally_plane(net: Net, samples: Samples, plane: np.ndarray, level: int) -> Tally:
    """The statistics of one level at full size, over one plane (image, t, z), or one volume (image, t)."""
    image, *place = (int(value) for value in plane)
    plan = plan_tiles(samples.shape(image), tile=TILE, stride=net.strides, halo=net.radii)
    total: Tally | None = None
    for tile in plan:
        if list(tile.core.start[: len(place)]) == place:
            found = _tally_tile(net, samples, image, tile, level)
            total = found if total is None else total + found
    if total is None:
        raise RuntimeError(f"no tile holds plane {place} of image {image}")
    return total


def _tally_tile(net: Net, samples: Samples, image: int, tile: Tile, level: int) -> Tally:
    prepared = torch.from_numpy(fit_to_net(samples.read(image, tile.read, spatial=net.spatial), net))[None]
    core = tile.core.relative_to(tile.read).slices[-net.spatial :]
    with torch.inference_mode():
        maps = enlarge(net.levels(prepared)[level], prepared.shape[2:])[0]
    return Tally.of(maps[(slice(None), *core)].numpy(), counted=False)
