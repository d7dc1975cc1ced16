"""A model as one ONNX graph, from raw pixels to class probabilities, features or another image, at any size."""

from __future__ import annotations

import json
import warnings
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fieldmark.core.extras import require_extra
from fieldmark.core.registry import is_typed
from fieldmark.errors import BadInput
from fieldmark.models.flim import FlimNet
from fieldmark.models.flim_graph import FlimGraphNet
from fieldmark.models.flim_ops import AdaptivePool
from fieldmark.prepare import inverse
from fieldmark.prepare.color import LINEAR_BELOW, RGB_TO_XYZ, WHITE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fieldmark.checkpoint import Header
    from fieldmark.models.base import Net

OPSET = 18
"""The first that resizes and scatters as these networks do."""
_ONE_GRAPH = "which one graph for all cannot do."
_AS_KERNELS = "Export its kernels: --format libift."
AXES = {0: "batch", 2: "height", 3: "width"}


class RawNet(nn.Module):
    """Prepare raw pixels, pad to the stride, run the network, cut back: what `infer.forward` does, in torch alone.

    Walks that refine borders are no tensor operations: classes are the head's own.

    Args:
        net: In evaluation mode.
        preparation: The model's steps.
        output: `classes`, `features` or `image`.
        back: The steps from an image that the network makes to the units of what taught it.
    """

    def __init__(
        self, net: Net, preparation: list[dict[str, Any]], output: str, back: Sequence[dict[str, Any]] = ()
    ) -> None:
        super().__init__()
        self.net = net
        self.steps = nn.ModuleList(_step(step) for step in preparation)
        self.output = output
        self.back = nn.ModuleList(_step(step) for step in back)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, Y, X) raw values to (B, K, Y, X)."""
        values = pixels
        for step in self.steps:
            values = step(values)
        height, width = values.shape[-2], values.shape[-1]
        for axis, (stride, least) in enumerate(zip(self.net.strides[1:], self.net.least, strict=True), start=2):
            values = _grown(values, axis, stride, least)
        answers = self.net.answer(values, self.output) if self.net.refiner is None else self._unrefined(values)
        for step in self.back:
            answers = step(answers)
        return answers[..., :height, :width]

    def _unrefined(self, values: Tensor) -> Tensor:
        return self.net.unrefined(values) if self.output == "classes" else self.net.answer(values, self.output)


def _grown(values: Tensor, axis: int, stride: int, least: int) -> Tensor:
    """An axis grown at its end to a multiple of the stride, and to the least, by reflection, as often as needed."""
    if stride == least == 1:
        return values
    size = torch.as_tensor(values.shape[axis])
    grown: Any = ((size + stride - 1) // stride * stride).clamp(min=least)  # a tensor, so that it is traced
    places = torch.arange(grown, device=values.device)
    last = size - 1
    turned = places % (2 * last).clamp(min=1)
    return values.index_select(axis, torch.minimum(turned, 2 * last - turned))


class _Scale(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, values: Tensor) -> Tensor:
        return values / self.by


class _Standardize(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.std


class _Lab(nn.Module):
    """`prepare.color.rgb_to_lab`."""

    matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.from_numpy(RGB_TO_XYZ / WHITE[:, None]).view(3, 3, 1, 1))

    def forward(self, values: Tensor) -> Tensor:
        xyz = torch.nn.functional.conv2d(values, self.matrix)
        root = xyz.clamp_min(1e-12) ** (1 / 3)
        fx, fy, fz = torch.where(xyz >= float(LINEAR_BELOW), root, 841 / 108 * xyz + 4 / 29).unbind(1)
        lightness = (116 * fy - 16) / 99.998337
        green_red = (500 * (fx - fy) + 86.182236) / (86.182236 + 98.258614)
        blue_yellow = (200 * (fy - fz) + 107.867744) / (107.867744 + 94.481682)
        return torch.stack([lightness, green_red, blue_yellow], dim=1)


class _Channels(nn.Module):
    """Some channels, in an order."""

    take: Tensor

    def __init__(self, take: list[int]) -> None:
        super().__init__()
        self.register_buffer("take", torch.tensor(take))

    def forward(self, values: Tensor) -> Tensor:
        return values.index_select(1, self.take)


class _Clip(nn.Module):
    low: Tensor
    high: Tensor

    def __init__(self, low: list[float], high: list[float]) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(low).view(1, -1, 1, 1))
        self.register_buffer("high", torch.tensor(high).view(1, -1, 1, 1))

    def forward(self, values: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(values, self.low), self.high)


class _Shortcut(nn.Module):
    """What MONAI's small ResNets add to a block that makes maps smaller: every n-th pixel, and channels of zeros.

    MONAI's own takes the size of those from the image that it is traced with.
    """

    def __init__(self, planes: int, stride: int) -> None:
        super().__init__()
        self.planes, self.stride = planes, stride

    def forward(self, x: Tensor) -> Tensor:
        maps = nn.functional.avg_pool2d(x, 1, self.stride)
        return nn.functional.pad(maps, (0, 0, 0, 0, 0, self.planes - int(maps.shape[1])))


def _traced_at_any_size(net: Net) -> Net:
    """The network, which answers as before, without parts in which a trace would keep the size of its image."""
    for part in net.modules():
        own = getattr(part, "downsample", None)
        if isinstance(own, partial) and own.keywords.keys() >= {"planes", "stride"}:
            part.downsample = _Shortcut(int(own.keywords["planes"]), int(own.keywords["stride"]))
    return net


class _Replicate(nn.Module):
    """A gray image as one of three equal channels, before colors."""

    def forward(self, values: Tensor) -> Tensor:
        return torch.cat([values, values, values], dim=1)


def _step(step: dict[str, Any]) -> nn.Module:
    match step:
        case {"step": "scale", "by": by}:
            return _Scale(float(by))
        case {"step": "standardize", "mean": mean, "std": std}:
            return _Standardize(mean, std)
        case {"step": "channels", "take": take}:
            return _Channels(take)
        case {"step": "clip", "low": low, "high": high}:
            return _Clip(low, high)
        case {"step": "replicate"}:
            return _Replicate()
        case {"step": "lab"}:
            return _Lab()
        case _:
            raise BadInput(
                f"The preparation {step.get('step')!r} has no ONNX twin: a graph takes numbers that are the same for "
                "all images and places. Fit with net.color raw or lab, prepare.normalize.scheme=dataset, and neither "
                "prepare.resize nor prepare.flat_field."
            )


def to_onnx(net: Net, header: Header, output: str) -> bytes:
    """The graph's bytes: input `pixels` (B, C, Y, X) float32 raw values, output of the name of `output`.

    Batch, height and width may differ from image to image. The classes' names stand in
    the graph's metadata.

    Raises:
        BadInput: The model cannot be written as one graph; the message says what can.
        MissingExtra: The `onnx` package is missing.
    """
    require_extra("onnx", "onnx", "Export to ONNX")
    _require_exportable(net, header, output)
    back = inverse(header.target_preparation) if output == "image" else []
    raw = RawNet(_traced_at_any_size(net), header.preparation, output, back).eval()
    # odd sizes that are no multiples of the stride: nothing of them may stay in the graph
    height, width = net.least
    pixels = torch.rand(1, header.channels, 2 * height + 3, 3 * width + 5) * 255
    file = BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # its own deprecations, and sizes of kernels that really are constants
        torch.onnx.export(
            raw,
            (pixels,),
            file,  # type: ignore[arg-type]
            dynamo=False,  # the newer exporter takes 40 times as long, and no forests
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=[output],
            dynamic_axes={"pixels": AXES, output: AXES},
        )
    data = _with_facts(file.getvalue(), header, output)
    _require_any_size(data, raw, header)
    return data


def _require_exportable(net: Net, header: Header, output: str) -> None:
    own = "image" if header.outputs[:1] == ("image",) else "classes"
    if output not in (own, "features"):
        raise BadInput(f"ONNX graphs of this model give {own} or features, not {output!r}. Choose one with --output.")
    if "numbers" in header.outputs:
        raise BadInput("This model answers whole images with numbers; graphs are written for answers of pixels.")
    if net.spatial != 2:
        kernels = isinstance(net, (FlimNet, FlimGraphNet))
        instead = "Export its kernels: --format libift." if kernels else "Predict with it, or fit one with net.dims=2."
        raise BadInput(f"This model reads volumes; graphs are written for images. {instead}")
    if any(isinstance(part, AdaptivePool) for part in net.modules()):
        raise BadInput(
            "This model has an adaptive pool: its windows follow the size of the image, and those of a graph do not. "
            "Export its kernels: --format libift."
        )
    if output == "classes" and not net.gives_classes:
        raise BadInput("This model has no head, so it gives no classes. Export what it sees with --output features.")
    if output == "classes" and net.head is not None and net.head.rounds:
        raise BadInput(
            "This model's head looks at the whole image before it answers, which no graph over a tile can do. "
            "Export what it sees with --output features, or fit it with head.kind=forest or logistic."
        )


def _require_any_size(data: bytes, raw: RawNet, header: Header) -> None:
    """Run the graph on one image, and on two, of other sizes than it was traced with, of which it may hold constants.

    Raises BadInput where it answers otherwise than the network.
    """
    typed = is_typed(header.family)
    if not isinstance(raw.net, FlimGraphNet) and not typed:
        return
    height, width = raw.net.least
    wide, high = (3 * height + 1, 4 * width + 2), (4 * height + 3, 3 * width + 2)
    if not _holds(data, raw, (1, header.channels, *wide)) or not _holds(data, raw, (1, header.channels, *high)):
        instead = "Let forward compute nothing in Python from the size of its input." if typed else _AS_KERNELS
        raise BadInput(f"This model answers otherwise for images of other sizes, {_ONE_GRAPH} {instead}")
    if not _holds(data, raw, (2, header.channels, *wide)):
        instead = "Let forward count or loop over no images in Python (len(x), x.shape[0])." if typed else _AS_KERNELS
        raise BadInput(
            f"The graph of this model answers one image, and not two at once as the model, {_ONE_GRAPH} {instead}"
        )


def _holds(data: bytes, raw: RawNet, shape: tuple[int, ...]) -> bool:
    """Whether the graph answers as the network."""
    from onnx.reference import ReferenceEvaluator

    pixels = torch.rand(shape) * 255
    with torch.inference_mode():
        ours = raw(pixels).numpy()
    try:
        theirs = ReferenceEvaluator(data).run(None, {"pixels": pixels.numpy()})[0]
    except (RuntimeError, ValueError, IndexError, TypeError):
        return False
    close = 1e-3 * max(1.0, float(np.abs(ours).max()))
    return theirs.shape == ours.shape and bool(np.allclose(theirs, ours, atol=close))


def _with_facts(data: bytes, header: Header, output: str) -> bytes:
    """The graph with what a stranger must know to read its answers."""
    import onnx

    model = onnx.load_from_string(data)
    facts = {
        "family": header.family,
        "output": output,
        "classes": json.dumps([{"name": spec.name, "value": spec.value} for spec in header.classes]),
        "pixels": "(batch, channel, y, x) float32, as the image file holds them",
        "refined": "no: borders are as the head draws them" if "refiner" in header.config else "as the model",
        "made_by": f"fieldmark {header.code_version}",
    }
    onnx.helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
