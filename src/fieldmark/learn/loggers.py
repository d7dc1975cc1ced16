"""Where a fit's numbers go beside `history.csv`: TensorBoard, Weights & Biases; each by its extra."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fieldmark.core.events import Event
from fieldmark.core.extras import require_extra
from fieldmark.errors import BadInput
from fieldmark.learn.descend import Descend

if TYPE_CHECKING:
    from fieldmark.learn.engine import Phase

PROJECT = "fieldmark"
"""Of Weights & Biases, where the environment variable WANDB_PROJECT names none."""


class Logger(Protocol):
    """Takes the numbers of events."""

    def write(self, event: Event) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Curves for `tensorboard --logdir RUN/tensorboard`: `PHASE/METRIC` over steps.

    Args:
        folder: Of the run.
        settings: Of the run, shown beside the curves.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        require_extra("tensorboard", "tensorboard", "train.loggers: tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._out = SummaryWriter(str(folder / "tensorboard"))
        self._text("recipe", json.dumps(settings, indent=2))

    def write(self, event: Event) -> None:
        for name, value in event.metrics.items():
            self._out.add_scalar(f"{event.phase}/{name}", value, event.step)
        self._out.flush()

    def close(self) -> None:
        self._out.close()

    def _text(self, name: str, text: str) -> None:
        indented = "\n".join(f"    {line}" for line in text.splitlines())  # a block of code in Markdown
        self._out.add_text(name, indented)


class WeightsAndBiases:
    """One run of Weights & Biases for one of ours, by the same name; resumed where ours is.

    Project, entity and whether anything leaves this machine (WANDB_MODE=offline) are its own
    environment variables. Its files lie in the run's folder.

    Args:
        folder: Of the run.
        settings: Of the run.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        require_extra("wandb", "wandb", "train.loggers: wandb")
        import wandb

        self._known: set[str] = set()
        name = folder.resolve().name
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                id=name,
                name=name,
                dir=str(folder),
                config=settings,
                resume="allow",
            )
        except wandb.Error as error:
            raise BadInput(
                f"train.loggers: wandb cannot begin ({error}). Log in with `wandb login`, or keep its files on this "
                "machine: set WANDB_MODE=offline."
            ) from error

    def write(self, event: Event) -> None:
        count = f"{event.phase}/step"
        if event.phase not in self._known:  # each phase counts its own steps
            self._run.define_metric(count, hidden=True)
            self._run.define_metric(f"{event.phase}/*", step_metric=count)
            self._known.add(event.phase)
        self._run.log({f"{event.phase}/{name}": value for name, value in event.metrics.items()} | {count: event.step})

    def close(self) -> None:
        self._run.finish()


LOGGERS: dict[str, Callable[[Path, dict[str, Any]], Logger]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def loggers_of(phases: Sequence[Phase]) -> list[str]:
    """The loggers that any phase asks for, each once."""
    asked = [name for phase in phases if isinstance(phase, Descend) for name in phase.config.loggers]
    return list(dict.fromkeys(asked))


def logged(events: Iterator[Event], names: Sequence[str], folder: Path, settings: dict[str, Any]) -> Iterator[Event]:
    """The same events, their numbers also told to the loggers of these names.

    Raises:
        MissingExtra: A logger's package is not installed.
        BadInput: A logger cannot begin.
    """
    loggers: list[Logger] = []
    try:
        for name in names:
            loggers.append(LOGGERS[name](folder, settings))  # noqa: PERF401 - those that began must be closed
        for event in events:
            for logger in loggers if event.metrics else ():
                logger.write(event)
            yield event
    finally:
        for logger in loggers:
            logger.close()
