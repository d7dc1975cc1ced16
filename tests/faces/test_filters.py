"""The commands about filters and weights: `flim inspect`, `models export` and `models import`."""

from __future__ import annotations

import json

import pytest

from fieldmark.testing.projects import drawn_project
from fieldmark.workbench import Workbench

pytestmark = pytest.mark.usefixtures("worker_here")

SMALL = (
    'net.branches=[{"layers": [{"out_channels": 4}]}]',
    "net.scales=[1.0]",
    "head.kind=logistic",
)


@pytest.fixture
def project(tmp_path):
    folder = drawn_project(tmp_path, images=1, taught=1)
    with Workbench.open(folder) as bench:
        list(bench.fit("flim", name="tiny", overrides=SMALL)[1])
    return folder


def test_inspect_then_drop_then_inspect(cli, project, tmp_path):
    status, out, _ = cli("-C", project, "flim", "inspect", "tiny", "--out", tmp_path / "page")
    assert (status, out) == (0, f"Model tiny. Page: {tmp_path / 'page' / 'inspect.html'}\n")
    status, out, _ = cli("-C", project, "flim", "inspect", "tiny", "--drop", "branch1/layer1:0", "--json")
    assert status == 0
    assert json.loads(out)["model"].endswith("tiny-dropped")
    status, out, err = cli(
        "-C", project, "flim", "inspect", "tiny", "--drop", "branch1/layer7:0", "--name", "x", "--json"
    )
    assert status == 1
    assert json.loads(out)["error"]["code"] == "not-found"
    assert "Did you mean 'branch1/layer1'?" in err


def test_a_name_without_a_drop_is_a_usage_error(cli, project):
    assert cli("-C", project, "flim", "inspect", "tiny", "--name", "x")[0] == 2


def test_export_and_import(cli, project, tmp_path):
    folder = tmp_path / "kernels"
    status, out, _ = cli("-C", project, "models", "export", "tiny", "--format", "libift", "--out", folder)
    assert status == 0
    assert len(out.splitlines()) == 5
    status, out, _ = cli("-C", project, "models", "import", folder, "--name", "back")
    assert (status, out) == (0, "Model back.\n")
    status, _, err = cli("-C", project, "models", "export", "tiny", "--format", "onxx", "--out", tmp_path / "x")
    assert status == 1
    assert "Did you mean 'onnx'?" in err
    assert cli("-C", project, "models", "export", "tiny")[0] == 2
    assert cli("-C", project, "models", "export", "tiny", tmp_path / "copy")[0] == 0


def test_export_an_onnx_graph(cli, project, tmp_path):
    pytest.importorskip("onnx")
    status, out, _ = cli("-C", project, "models", "export", "tiny", "--format", "onnx", "--out", tmp_path / "x.onnx")
    assert (status, out) == (0, f"Wrote {tmp_path / 'x.onnx'}.\n")
    assert (tmp_path / "x.onnx").stat().st_size > 1000
