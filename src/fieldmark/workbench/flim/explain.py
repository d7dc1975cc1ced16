"""`explain`: what of an image speaks for its class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fieldmark.core.events import Event
from fieldmark.errors import BadInput
from fieldmark.workbench.flim.checks import require_folder
from fieldmark.workbench.flim.layers import require_own_files
from fieldmark.workbench.flim.options import ExplainOptions, computing
from fieldmark.workbench.flim.validate import classifier_header, image_items, split_images
from fieldmark.workbench.flim.vectors import require_images
from fieldmark.workbench.jobs import run_job
from fieldmark.workbench.originals import refuse_inside

FOLDER = "CAMs"


def require_drawable(model: Path, dataset: Path, out: Path) -> None:
    """Raise where there is nothing to draw on, no gradient to follow, or `out` is not to be written into.

    Raises:
        BadFile: There is no such model or folder of images.
        BadInput: The model has no dense classifier of images, or `out` lies in the data set.
    """
    header = classifier_header(model)
    require_images(header, model, "Grad-CAM is drawn on images")
    require_folder(dataset, "-d")
    match header.config:
        case {"image_head": {"kind": "svm"}}:
            raise BadInput(
                f"Grad-CAM follows the gradient of a dense classifier, and model {str(model)!r} has a support vector "
                "machine. Train another without -s, or leave the drawing out."
            )
    refuse_inside(out, [dataset], "-d")


def explain(options: ExplainOptions) -> Iterator[Event]:
    """Write `CAMs/LAYER/IMAGE.png` for each image that was asked for.

    Raises:
        BadInput: A place beyond the split, or a model that answers no images, or not by a gradient.
    """
    require_drawable(options.model_path, options.dataset_dir, options.outputs_dir)
    images = split_images(options.dataset_dir, options.split, "-ts")
    places = options.image_indices or tuple(range(len(images)))
    if beyond := [place for place in places if place >= len(images)]:
        raise BadInput(f"-i {beyond[0]}: {options.split} names {len(images)} images; count them from 0.")
    require_own_files([images[place] for place in places], "png")
    out = options.outputs_dir / FOLDER
    job = {
        "kind": "explain",
        "model": str(options.model_path),
        "name": options.model_path.name,
        "images": image_items([images[place] for place in places]),
        "layers": list(options.target_layers),
        "out": str(out),
        **computing(options.gpus),
    }
    yield from run_job(job, options.outputs_dir / ".fieldmark" / "explain.json")
