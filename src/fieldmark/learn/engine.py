"""The one training loop: run every phase from where the state says it stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from fieldmark.core.events import Event
from fieldmark.errors import BadRecipe, near_miss
from fieldmark.infer.device import kind_for

if TYPE_CHECKING:
    import numpy as np

    from fieldmark.learn.state import FitState
    from fieldmark.models.base import Net
    from fieldmark.recipes import FitRecipe


STRATEGIES = ("auto", "ddp", "ddp_find_unused_parameters_true")
"""Of Lightning Fabric: those under which every process holds all weights."""


class Engine(Protocol):
    """What every phase may ask; a phase that descends gets the whole of Lightning Fabric."""

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes the files."""

    @property
    def world_size(self) -> int:
        """Processes that fit together."""

    @property
    def global_rank(self) -> int:
        """The number of this process among them."""


class Phase(Protocol):
    """A part of a fit that can be stopped and taken up again between its steps."""

    name: str
    total: int
    descends: bool
    """Whether it computes gradients; a closed form needs no devices set up for it."""

    def run(self, engine: Engine, net: Net, state: FitState) -> Iterator[Event]:
        """Go on from `state.progress[name]`; save the state before the events that end a step.

        Steps that take less than a save may share one.
        """

    def tensors(self) -> dict[str, np.ndarray]:
        """What the phase must find again when it is resumed, beside the network."""


def fit(engine: Engine, net: Net, phases: Sequence[Phase], state: FitState) -> Iterator[Event]:
    """Run every phase and yield its events.

    The generator may be closed after any event: what it yielded is on disk, but for the last moments of closed
    forms, and another `fit` with the same network, phases and state folder goes on to the same weights.
    """
    for phase in phases:
        if state.progress.get(phase.name, 0) < phase.total:
            yield from phase.run(engine, net, state)


class SoleProcess:
    """The engine of a fit in closed form: one process, no device to set up, no Fabric to import."""

    is_global_zero = True
    world_size = 1
    global_rank = 0


def make_engine(recipe: FitRecipe, phases: Sequence[Phase]) -> Engine:
    """Lightning Fabric as the recipe asks: devices, precision, nodes.

    With several devices the processes beside this one are started here: each runs the same command
    from its beginning, up to this line, where they meet. On a cluster its scheduler starts them.

    Raises:
        BadRecipe: The strategy parts the weights, or needs another way to start processes.
        BadInput: A GPU is wanted, and this machine has none of that kind.
    """
    alone = recipe.devices == 1 and recipe.num_nodes == 1
    if alone and not any(phase.descends for phase in phases):
        return SoleProcess()
    if recipe.strategy not in STRATEGIES:
        raise BadRecipe(
            f"strategy: {recipe.strategy!r} is not for fits, whose weights are whole on each device. "
            f"{near_miss(recipe.strategy, STRATEGIES)}"
        )
    if recipe.accelerator in ("gpu", "cuda", "mps"):
        kind_for(recipe.accelerator)
    from lightning_fabric import Fabric

    # an encoder that rests in the first epochs gives no gradients, and the others would wait for them
    rests = not alone and recipe.train.only_decoder_epochs > 0
    engine = Fabric(
        accelerator=recipe.accelerator,
        devices=recipe.devices,
        num_nodes=recipe.num_nodes,
        strategy=STRATEGIES[-1] if rests else recipe.strategy,
        precision=recipe.precision,
    )
    engine.launch()
    _share_cores(engine.device.type, recipe.devices)
    ready: Engine = engine
    return ready


def _share_cores(device: str, processes: int) -> None:
    """Processes on one processor part its cores; oversubscribed, all of them crawl."""
    if device != "cpu" or processes == 1:
        return
    import torch

    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
