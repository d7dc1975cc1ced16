"""Files that can only be written in order: collected in any order beside them, then written whole and renamed."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fieldmark.core.axes import AXES
from fieldmark.core.files import draft_of, remove_drafts, sync_folder
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.images.decode import pieces
from fieldmark.images.opening import open_image
from fieldmark.images.source import ImageSource
from fieldmark.images.writers.ome_zarr import OmeZarrWriter
from fieldmark.images.writers.plan import WritePlan

if TYPE_CHECKING:
    import numpy as np


class DraftWriter:
    """Base of writers of single files; memory follows the tile, the draft is on disk."""

    def __init__(self, plan: WritePlan) -> None:
        self._plan = plan
        self._draft_path = plan.path.with_name(f".{plan.path.name}.draft.ome.zarr")
        if plan.path.is_dir():
            raise BadInput(f"{plan.path} is a folder. Choose another name for the file.")
        if not plan.resume:
            shutil.rmtree(self._draft_path, ignore_errors=True)
        finished = plan.path.exists() and plan.resume and not self._draft_path.exists()
        self._draft = OmeZarrWriter(self._draft_plan())
        if finished:
            self._take_over()

    def write(self, box: Box, values: np.ndarray) -> None:
        self._draft.write(box, values)

    def finish(self) -> None:
        path = self._plan.path
        part = draft_of(path)
        remove_drafts(path.parent, path.name)  # of processes that were killed here: as large as the file
        self._draft.finish()
        try:
            with open_image(self._draft_path) as source:
                self._encode(source, part)
            with open(part, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        sync_folder(path.parent)
        shutil.rmtree(self._draft_path)

    def abort(self) -> None:
        shutil.rmtree(self._draft_path, ignore_errors=True)

    def _encode(self, source: ImageSource, part: Path) -> None:
        """Write the finished draft to `part` in the format's own way."""
        raise NotImplementedError

    def _draft_plan(self) -> WritePlan:
        """The draft has all axes, one level, and chunks as large as the file's tiles."""
        return replace(
            self._plan,
            path=self._draft_path,
            axes=AXES,
            channel_names=None,
            label_names=None,
            levels=1,
            version="0.5",
            overwrite=True,
        )

    def _take_over(self) -> None:
        """Fill the draft from the finished file, so that resuming after the very last step loses nothing."""
        with open_image(self._plan.path) as source:
            if source.shape != self._plan.shape or source.dtype != self._plan.dtype:
                self._draft.abort()
                raise BadInput(
                    f"{self._plan.path} holds {source.shape} {source.dtype}; to go on with it takes "
                    f"{self._plan.shape} {self._plan.dtype}. Delete it, or choose another name."
                )
            for box in pieces(source):
                self._draft.write(box, source.read(box))
