"""A model as one ONNX graph, from raw pixels to class probabilities or features, for images of any size."""

from __future__ import annotations

import json
import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fieldmark.core.extras import require_extra
from fieldmark.errors import BadInput
from fieldmark.models.flim_graph import FlimGraphNet
from fieldmark.models.flim_ops import AdaptivePool
from fieldmark.prepare.color import LINEAR_BELOW, RGB_TO_XYZ, WHITE

if TYPE_CHECKING:
    from fieldmark.checkpoint import Header
    from fieldmark.models.base import Net

OPSET = 18
"""The first that resizes and scatters as these networks do."""
AXES = {0: "batch", 2: "height", 3: "width"}


class RawNet(nn.Module):
    """Prepare raw pixels, pad to the stride, run the network, cut back: what `infer.forward` does, in torch alone.

    Walks that refine borders are no tensor operations: classes are the head's own.

    Args:
        net: In evaluation mode.
        preparation: The model's steps.
        output: `classes` or `features`.
    """

    def __init__(self, net: Net, preparation: list[dict[str, Any]], output: str) -> None:
        super().__init__()
        self.net = net
        self.steps = nn.ModuleList(_step(step) for step in preparation)
        self.output = output

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, Y, X) raw values to (B, K, Y, X)."""
        values = pixels
        for step in self.steps:
            values = step(values)
        height, width = values.shape[-2], values.shape[-1]
        for axis, (stride, least) in enumerate(zip(self.net.strides[1:], self.net.least, strict=True), start=2):
            values = _grown(values, axis, stride, least)
        answers = self.net.answer(values, self.output) if self.net.refiner is None else self._unrefined(values)
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
        case {"step": "replicate"}:
            return _Replicate()
        case {"step": "lab"}:
            return _Lab()
        case _:
            raise BadInput(f"The preparation {step.get('step')!r} has no ONNX twin. Fit with net.color raw or lab.")


def to_onnx(net: Net, header: Header, output: str) -> bytes:
    """The graph's bytes: input `pixels` (B, C, Y, X) float32 raw values, output of the name of `output`.

    Batch, height and width may differ from image to image. The classes' names stand in
    the graph's metadata.

    Raises:
        BadInput: The model cannot be written as one graph; the message says what can.
        MissingExtra: The `onnx` package is missing.
    """
    require_extra("onnx", "onnx", "Export to ONNX")
    _require_exportable(net, output)
    # odd sizes that are no multiples of the stride: nothing of them may stay in the graph
    height, width = net.least
    pixels = torch.rand(1, header.channels, 2 * height + 3, 3 * width + 5) * 255
    file = BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # its own deprecations, and sizes of kernels that really are constants
        torch.onnx.export(
            RawNet(net.eval(), header.preparation, output),
            (pixels,),
            file,  # type: ignore[arg-type]
            dynamo=False,  # the newer exporter takes 40 times as long, and no forests
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=[output],
            dynamic_axes={"pixels": AXES, output: AXES},
        )
    data = _with_facts(file.getvalue(), header, output)
    _require_any_size(data, net, header, output)
    return data


def _require_exportable(net: Net, output: str) -> None:
    if output not in ("classes", "features"):
        raise BadInput(f"ONNX graphs give classes or features, not {output!r}. Choose one with --output.")
    if net.spatial != 2:
        raise BadInput("This model reads volumes; graphs are written for images. Export its kernels: --format libift.")
    if any(isinstance(part, AdaptivePool) for part in net.modules()):
        raise BadInput(
            "This model has an adaptive pool: its windows follow the size of the image, and those of a graph do not. "
            "Export its kernels: --format libift."
        )
    if output == "classes" and net.head is None:
        raise BadInput("This model has no head, so it gives no classes. Export what it sees with --output features.")
    if output == "classes" and net.head is not None and net.head.rounds:
        raise BadInput(
            "This model's head looks at the whole image before it answers, which no graph over a tile can do. "
            "Export what it sees with --output features, or fit it with head.kind=forest or logistic."
        )


def _require_any_size(data: bytes, net: Net, header: Header, output: str) -> None:
    """Run the graph on an image of another size than it was traced with, where its sizes might have become constants.

    Raises BadInput where it answers otherwise than the network.
    """
    from onnx.reference import ReferenceEvaluator

    if not isinstance(net, FlimGraphNet):
        return
    height, width = net.least
    pixels = torch.rand(1, header.channels, 3 * height + 1, 4 * width + 2) * 255
    with torch.inference_mode():
        ours = RawNet(net.eval(), header.preparation, output)(pixels).numpy()
    try:
        theirs = ReferenceEvaluator(data).run(None, {"pixels": pixels.numpy()})[0]
    except (RuntimeError, ValueError, IndexError, TypeError):
        theirs = np.empty(0)
    if theirs.shape != ours.shape or not np.allclose(theirs, ours, atol=1e-3 * max(1.0, float(np.abs(ours).max()))):
        raise BadInput(
            "This model answers otherwise for images of other sizes, which one graph for all cannot do. Export its "
            "kernels: --format libift."
        )


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
