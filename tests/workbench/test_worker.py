"""What the worker says of what the system refuses it."""

from __future__ import annotations

import errno
import json
import os

import pytest

from fieldmark.core.events import Event
from fieldmark.workbench import worker


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "The disk: no space is left to write"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/a.tif"), "out/a.tif: no space is left to write"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "out/a.tif"), "out/a.tif: Read-only file system"),
    ],
)
def test_a_full_disk_is_said_and_not_taken_for_a_want_of_memory(monkeypatch, tmp_path, error, words):
    """The log cannot be written then, so the answer itself says what happened."""

    def fills(job: dict) -> object:
        yield Event("image", 1, 2)
        raise error

    said: list[dict] = []
    monkeypatch.setattr(worker, "start", fills)
    monkeypatch.setattr(worker, "_own_output", lambda: said.append)
    monkeypatch.setattr(worker, "_stop_signal", type("Never", (), {"is_set": lambda self: False}))
    (tmp_path / "job.json").write_text(json.dumps({"kind": "predict"}))
    with pytest.raises(OSError, match=os.strerror(error.errno)):
        worker.main(tmp_path / "job.json")
    assert said[-1]["error"]["message"].startswith(words)
