"""Weights that other programs trained, as one of our model folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from fieldmark import __version__
from fieldmark.checkpoint import Header, save
from fieldmark.core.events import Event
from fieldmark.models.build import build
from fieldmark.models.flim_graph import FlimGraphNet
from fieldmark.models.flim_ops import Conv
from fieldmark.models.foreign import channels_of, read_state, take_layers, take_state
from fieldmark.models.libift import first_channels, read_layers
from fieldmark.models.tensors import arrays_of
from fieldmark.prepare import color_steps
from fieldmark.recipes import validate
from fieldmark.recipes.flim_arch import FlimGraphConfig

FAMILY = "flim-net"


def import_from_job(job: dict[str, Any]) -> Iterator[Event]:
    """Write the model that a job describes (see `fieldmark.workbench.importing`)."""
    source = Path(job["source"])
    config = {"arch": job["arch"], "color": job["color"]}
    net, left_out = _from_folder(source, config, job) if source.is_dir() else _from_file(source, config)
    if left_out:
        names = ", ".join(left_out[:3])
        yield Event("note", 0, 0, message=f"{len(left_out)} entries of its classifier were not taken ({names}, ...).")
    save(Path(job["out"]), _header(net, config, job), arrays_of(net))
    yield Event("import", 1, 1, message=source.name)


def _from_folder(source: Path, config: dict[str, Any], job: dict[str, Any]) -> tuple[FlimGraphNet, list[str]]:
    """A network with the weights of a libIFT folder."""
    bare = _net(config, 1)
    shapes = [op.size for op in map(bare.op, bare.learnable()) if isinstance(op, Conv)]
    channels = first_channels(source, shapes[0] if shapes else ())
    net = _net(config, channels)
    take_layers(net, read_layers(source, channels, dims=net.spatial, shapes=shapes, order=job["order"]), source)
    return net, []


def _from_file(source: Path, config: dict[str, Any]) -> tuple[FlimGraphNet, list[str]]:
    """A network with the weights of a state dict, and what of it was left out."""
    state = read_state(source)
    net = _net(config, channels_of(state, source))
    return net, take_state(net, state, source)


def _net(config: dict[str, Any], channels: int) -> FlimGraphNet:
    return cast("FlimGraphNet", build(FAMILY, config, channels))


def _header(net: FlimGraphNet, config: dict[str, Any], job: dict[str, Any]) -> Header:
    return Header(
        family=FAMILY,
        config=dict(validate(FlimGraphConfig, config, where="net").model_dump(mode="json")),
        preparation=color_steps(job["color"], net.channels, by=float(job["scale"]), integers=True),
        outputs=net.outputs,
        channels=net.channels,
        stride=net.strides,
        halo=net.radii,
        tile_exact=net.tile_exact,
        details={"imported": Path(job["source"]).name},
        code_version=__version__,
    )
