"""Models to begin with or to predict with, as files of other systems or folders of ours."""

from __future__ import annotations

import tempfile
from contextlib import closing
from pathlib import Path

from fieldmark.core.extras import require_extra
from fieldmark.core.fingerprint import file_hash
from fieldmark.errors import BadFile
from fieldmark.recipes.dialects.weights import refuse_keras
from fieldmark.workbench.jobs import run_job

TORCH = (".pt", ".pth")


def begin_folder(path: Path, shelf: Path) -> Path:
    """The model folder of a path: itself, or an old checkpoint's (`.pt`), converted into a folder of `shelf`.

    Raises:
        BadFile: It is neither; files of Keras are refused by name.
        MissingExtra: Old checkpoints need the extra `backbones`.
    """
    refuse_keras(str(path))
    if (path / "model.json").is_file():
        return path.resolve()
    if path.suffix.lower() not in TORCH:
        raise BadFile(path, "is no model folder (no model.json) and no checkpoint (.pt). Name one of these.")
    if not path.is_file():
        raise BadFile(path, "there is no such file. Check the name.")
    require_extra("timm", "backbones", f"{path}, a checkpoint of segmentation-models-pytorch,")
    folder = shelf / file_hash(path)[:16]
    if not (folder / "model.json").is_file():
        job = {"kind": "convert", "source": str(path.resolve()), "out": str(folder)}
        with (
            tempfile.TemporaryDirectory(prefix="fieldmark-") as work,
            closing(run_job(job, Path(work) / "job.json")) as events,
        ):
            for _ in events:
                pass
    return folder
