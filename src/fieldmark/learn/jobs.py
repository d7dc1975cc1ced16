"""A fit as JSON and arrays on disk, so that it runs in a process of its own and again later."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fieldmark.checkpoint import ClassSpec, read_bundle
from fieldmark.core.axes import PixelSize
from fieldmark.core.events import Event
from fieldmark.learn.run import FitJob, run_fit
from fieldmark.learn.samples import Answers, Marks, SampleImage, Samples
from fieldmark.recipes import FitRecipe, validate

MARKS = "marks.json"


def fit_from_job(job: dict[str, Any]) -> Iterator[Event]:
    """Run the fit that a job describes (see `fieldmark.workbench.fitting`)."""
    return run_fit(fit_job(job))


def fit_job(job: dict[str, Any]) -> FitJob:
    """The fit that a job describes."""
    return FitJob(
        recipe=validate(FitRecipe, job["recipe"]),
        samples=samples_of(job),
        classes=tuple(ClassSpec(**item) for item in job["classes"]),
        folder=Path(job["folder"]),
        pixel_size=PixelSize(**job.get("pixel_size", {})),
    )


def samples_of(job: dict[str, Any]) -> Samples:
    """What the fit that a job describes learns from."""
    _, arrays = read_bundle(Path(job["folder"]), MARKS)
    return Samples(
        [SampleImage(**image) for image in job["images"]],
        Marks.from_arrays(arrays),
        len(job["classes"]),
        max_bytes=job.get("max_bytes"),
        answers=Answers.from_arrays(arrays),
    )
