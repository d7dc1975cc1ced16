"""Where a fit stands, on disk: a crash leaves the last finished step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fieldmark.checkpoint import read_bundle, write_bundle
from fieldmark.core.events import Event
from fieldmark.errors import BadFile
from fieldmark.models.heads import build_head
from fieldmark.models.image_heads import build_image_head
from fieldmark.models.refine import build_refiner
from fieldmark.models.tensors import arrays_of, load_arrays

if TYPE_CHECKING:
    import numpy as np

    from fieldmark.models.base import Net

NAME = "state.json"


class FitState:
    """Steps finished in each phase, the network's weights, and what the phase under way needs.

    Args:
        folder: Where the state is kept.
        made_from: Fingerprint of recipe, images and labels; another one is refused.
        keep: Writes the network as a model of that name beside the state; without it none is kept on the way.
    """

    def __init__(self, folder: Path, made_from: str, keep: Callable[[Net, str], None] | None = None) -> None:
        self.folder = folder
        self.made_from = made_from
        self.keep = keep
        self.progress: dict[str, int] = {}
        self.notes: dict[str, Any] = {}
        self.phase_tensors: dict[str, np.ndarray] = {}

    def remember(self, event: Event) -> None:
        """Keep an event with the state that it tells of: who should have heard it may be gone (see `told_last`)."""
        numbers = {name: value for name, value in event.metrics.items() if math.isfinite(value)}
        self.notes.setdefault(event.phase, {})["told"] = {"step": event.step, "total": event.total, "metrics": numbers}

    def told_last(self) -> Iterator[Event]:
        """What was kept of each phase, so that a fit that was killed between a state and its event loses no number."""
        for phase, note in self.notes.items():
            if "told" in note:
                yield Event(phase, **note["told"])

    def restore(self, net: Net) -> bool:
        """Take up what is on disk; False where there is nothing."""
        if not (self.folder / NAME).is_file():
            return False
        values, tensors = read_bundle(self.folder, NAME)
        if values.get("made_from") != self.made_from:
            raise BadFile(
                self.folder, "was made by another recipe, other images or other labels. Start a new fit instead."
            )
        try:
            self.progress = {str(name): int(step) for name, step in values["progress"].items()}
            self.notes = {str(phase): dict(note) for phase, note in values["notes"].items()}
            if values["head"] is not None:
                net.head = build_head(values["head"])
            if values.get("refiner") is not None:
                net.refiner = build_refiner(values["refiner"])
            if values.get("image_head") is not None:
                net.image_head = build_image_head(values["image_head"], net)
            load_arrays(net, _with_prefix(tensors, "net/"))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BadFile(self.folder / NAME, f"is no resume point ({error}). Start a new fit instead.") from error
        self.phase_tensors = _with_prefix(tensors, "phase/")
        return True

    def save(self, net: Net, phase_tensors: Mapping[str, np.ndarray] | None = None) -> None:
        """Make the present state the one that a later run finds."""
        tensors = {f"net/{name}": value for name, value in arrays_of(net).items()}
        tensors |= {f"phase/{name}": value for name, value in (phase_tensors or {}).items()}
        values = {
            "made_from": self.made_from,
            "progress": self.progress,
            "notes": self.notes,
            "head": net.head.config() if net.head is not None else None,
            "refiner": net.refiner.config() if net.refiner is not None else None,
            "image_head": net.image_head.config() if net.image_head is not None else None,
        }
        write_bundle(self.folder, NAME, values, tensors)


def _with_prefix(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
