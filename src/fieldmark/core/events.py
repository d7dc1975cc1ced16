"""What a job says while it works: one value for the terminal, the page and the notebook."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Event:
    """One step of a job.

    Args:
        phase: What is being done, for example `layer 2` or `descend`.
        step: Steps finished, from 1.
        total: Steps in all, 0 where nobody knows.
        metrics: Numbers worth a curve.
        message: A sentence for a person, or nothing.
    """

    phase: str
    step: int
    total: int
    metrics: dict[str, float] = field(default_factory=dict)
    message: str = ""
