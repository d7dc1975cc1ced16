"""What is refused before a fit begins, or goes on."""

from __future__ import annotations

import pytest

from fieldmark.errors import BadInput
from fieldmark.testing.projects import drawn_project
from fieldmark.testing.worker import use_fake_worker
from fieldmark.workbench import Workbench, fitting


def test_a_model_that_could_not_be_written_is_refused_before_it_is_learned(tmp_path, monkeypatch):
    use_fake_worker(monkeypatch)
    with Workbench.open(drawn_project(tmp_path, images=1, taught=1)) as bench:
        models = bench.project.models
        models.mkdir(exist_ok=True)
        run, _ = bench.fit("flim", name="later")
        for name in ("tiny", "later"):
            (models / name).symlink_to("unplugged")
        monkeypatch.setattr(fitting, "run_job", None)
        with pytest.raises(BadInput, match=r"tiny is a link that leads nowhere \(unplugged\).*another --name"):
            bench.fit("flim", name="tiny")
        with pytest.raises(BadInput, match=r"later is a link that leads nowhere"):
            list(fitting.follow_fit(bench.project, run))
        (models / "file").write_bytes(b"")
        with pytest.raises(BadInput, match=r"models/file is a file, where the model's folder is to be\. Or choose"):
            bench.fit("flim", name="file")
        assert len(list(bench.project.runs.iterdir())) == 1
