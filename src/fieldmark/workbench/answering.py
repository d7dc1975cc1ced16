"""From a model and images to a table of answers: one row an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fieldmark.checkpoint import header_of
from fieldmark.core.events import Event
from fieldmark.core.written import require_ours
from fieldmark.errors import BadInput
from fieldmark.workbench.jobs import run_job
from fieldmark.workbench.originals import refuse_originals
from fieldmark.workbench.predicting import HIDDEN, model_folder

if TYPE_CHECKING:
    from fieldmark.collection import ImageRecord
    from fieldmark.workbench.bench import Workbench

SUFFIXES = (".csv", ".json")


def answer_images(
    bench: Workbench,
    name: str,
    records: list[ImageRecord],
    target: Path,
    *,
    accelerator: str = "auto",
    gpus: Sequence[int] = (),
) -> Iterator[Event]:
    """Write the class of every image with the probability of each class, or its numbers; one event an image.

    Args:
        bench: The project.
        name: A model of the project, or a model folder, that gives `image-classes` or `numbers`.
        records: The images.
        target: A file ending in .csv or .json; not in a folder that holds images of the project.
        accelerator: What computes, as in a PredictRecipe.
        gpus: Those that the worker may see; none for all.
    """
    folder = model_folder(bench, name)
    if not {"image-classes", "numbers"} & set(header_of(folder).outputs):
        raise BadInput(
            f"Model {name!r} gives no answers for whole images. "
            "Answer some and fit it with image_head.kind=svm or dense."
        )
    if target.suffix.lower() not in SUFFIXES:
        raise BadInput(f"{target}: answers are written as .csv or .json. Choose a name that ends so.")
    target = target.resolve()
    refuse_originals(bench, [target.parent])
    stamp = target.parent / HIDDEN / "made" / f"{target.name}.txt"
    require_ours(target, stamp)
    job = {
        "kind": "answer",
        "model": str(folder),
        "name": name,
        "target": str(target),
        "stamp": str(stamp),
        "images": [{"name": r.name, "uri": r.uri, "content_hash": r.content_hash} for r in records],
        "allow": list(bench.allow),
        "accelerator": accelerator,
        "gpus": list(gpus),
    }
    yield from run_job(job, target.parent / HIDDEN / "answers-job.json")
