"""Pages of filters, and models without some of them."""

from __future__ import annotations

import base64
import io
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from fieldmark.checkpoint import header_of, load
from fieldmark.errors import BadInput, NotFound
from fieldmark.workbench.flim.drop import begin_without, parse_drops
from fieldmark.workbench.flim.inspect import PAGE, inspect_model, place_for
from fieldmark.workbench.flim.models import find_model


def inspected(bench, name: str, out) -> str:
    list(inspect_model(find_model(bench.project.folder, name), out))
    return (out / PAGE).read_text(encoding="utf-8")


def dropped(bench, name: str, *words: str, new: str = "") -> str:
    run, events = begin_without(find_model(bench.project.folder, name), parse_drops(words), new)
    list(events)
    return run.model


def weights_of(bench, name: str) -> dict[str, np.ndarray]:
    return load(bench.project.models / name)[1]


def test_the_page_shows_every_filter_and_all_pictures_decode(bench, tmp_path):
    text = inspected(bench, "tiny", tmp_path / "out")
    for name, array in weights_of(bench, "tiny").items():
        if name.startswith("branches") and name.endswith("weight"):
            _, branch, layer, _ = name.split(".")
            for number in (0, len(array) - 1):
                assert f"branch{int(branch) + 1}/layer{int(layer) + 1}:{number}" in text
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert len(pictures) == sum(len(a) for n, a in weights_of(bench, "tiny").items() if n.endswith(".stroke"))
    for picture in pictures[:5]:
        image = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB"))
        assert image.std() > 0
    assert not re.search(r"(src|href)=.(?!data:|#)", text)  # self-contained
    assert "drawn0.png at x" in text


def test_what_was_kept_stays_and_what_follows_is_learned_anew(bench):
    model = dropped(bench, "tiny", "branch1/layer1:1,3", new="less")
    before, after = weights_of(bench, "tiny"), weights_of(bench, model)
    first = "branches.0.0.weight"
    assert np.array_equal(after[first], np.delete(before[first], [1, 3], axis=0))
    assert np.array_equal(after["branches.0.0.place"], np.delete(before["branches.0.0.place"], [1, 3], axis=0))
    assert after["branches.0.1.weight"].shape[1] == before["branches.0.1.weight"].shape[1] - 2
    assert np.array_equal(after["branches.1.0.weight"], before["branches.1.0.weight"])
    header = header_of(bench.project.models / model)
    assert header.config["branches"][0]["layers"][0]["dropped"] == [1, 3]


def test_dropping_again_counts_what_is_left(bench):
    dropped(bench, "tiny", "branch1/layer1:1,3", new="less")
    dropped(bench, "less", "branch1/layer1:1", new="least")  # the second that is left: number 2 at first
    first = "branches.0.0.weight"
    assert np.array_equal(
        weights_of(bench, "least")[first], np.delete(weights_of(bench, "tiny")[first], [1, 2, 3], axis=0)
    )


def test_an_earlier_layer_takes_back_what_was_dropped_after_it(bench):
    dropped(bench, "tiny", "branch1/layer2:0", new="less")
    dropped(bench, "less", "branch1/layer1:0", new="least")
    layers = header_of(bench.project.models / "least").config["branches"][0]["layers"]
    assert [layer["dropped"] for layer in layers] == [[0], [], [], []]


def test_branches_do_not_depend_on_each_other(bench):
    model = dropped(bench, "tiny", "branch1/layer1:0", "branch2/layer1:2")
    assert model == "tiny-dropped"
    for place in ("branches.0.0.weight", "branches.1.0.weight"):
        assert len(weights_of(bench, model)[place]) == len(weights_of(bench, "tiny")[place]) - 1


def test_the_old_model_stays_as_it_was(bench):
    before = weights_of(bench, "tiny")
    dropped(bench, "tiny", "branch1/layer1:0")
    assert all(np.array_equal(array, before[name]) for name, array in weights_of(bench, "tiny").items())


@pytest.mark.parametrize("word", ["branch1/layer1", "branch1/layer1:", "branch1/layer1:x", ":3", "a:-1", "a:1,,2"])
def test_words_that_name_no_filter(word):
    with pytest.raises(BadInput, match="wanted LAYER:NUMBER"):
        parse_drops([word])


def test_words_that_name_filters():
    assert parse_drops(["a/b:1", "a/b:4,2", "c:0"]) == {"a/b": {1, 2, 4}, "c": {0}}


def test_what_is_refused(bench):
    found = find_model(bench.project.folder, "tiny")
    with pytest.raises(NotFound, match=r"branch1/layer9.*Did you mean"):
        begin_without(found, {"branch1/layer9": {0}})
    with pytest.raises(BadInput, match=r"has filters 0 to \d+, and no 900"):
        begin_without(found, {"branch1/layer1": {900}})
    count = len(weights_of(bench, "tiny")["branches.1.0.weight"])
    with pytest.raises(BadInput, match="all filters of branch2/layer1"):
        begin_without(found, {"branch2/layer1": set(range(count))})
    with pytest.raises(BadInput, match="branch1/layer3 learns from what branch1/layer1 passes on"):
        begin_without(found, {"branch1/layer1": {0}, "branch1/layer3": {0}})
    with pytest.raises(BadInput, match="exists already"):
        begin_without(found, {"branch1/layer1": {0}}, "tiny")
    assert len(bench.runs()) == 1


def test_a_model_that_nobody_has(bench):
    with pytest.raises(NotFound, match=r"'tinny'.*Did you mean 'tiny'"):
        find_model(bench.project.folder, "tinny")


def test_a_model_whose_run_is_gone(bench):
    shutil.rmtree(bench.runs()[0].folder)
    with pytest.raises(BadInput, match="is not beside it"):
        find_model(bench.project.folder, "tiny")


def test_a_model_by_its_folder_alone(bench, tmp_path):
    found = find_model(tmp_path, str(bench.project.models / "tiny"))
    assert found.run == bench.runs()[0].folder


def test_a_model_as_flim_train_leaves_it(bench, tmp_path):
    """The model in the outputs, its project hidden beside it: looked at and changed without naming a project."""
    shutil.copytree(bench.project.models / "tiny", tmp_path / "outputs" / "model.pt")
    shutil.copytree(bench.project.folder, tmp_path / "outputs" / ".fieldmark" / "flim-1")
    found = find_model(tmp_path, str(tmp_path / "outputs" / "model.pt"))
    assert found.shelf == tmp_path / "outputs"
    list(inspect_model(found, place_for(found, tmp_path / "page")))
    assert (tmp_path / "page" / PAGE).is_file()
    run, events = begin_without(found, {"branch2/layer1": {0}}, "less.pt")
    list(events)
    assert header_of(tmp_path / "outputs" / "less.pt").details["run"] == run.id
    assert find_model(tmp_path, str(tmp_path / "outputs" / "less.pt")).run == run.folder


def test_originals_are_only_read(bench):
    found = find_model(bench.project.folder, "tiny")
    with pytest.raises(BadInput, match="originals are only read"):
        place_for(found, bench.collection.find("drawn0.png").path.parent)


def test_a_model_without_filters(bench, tmp_path):
    list(
        bench.fit(
            "autoencoder",
            name="other",
            overrides=(
                "net.width=2",
                "net.depth=1",
                "net.latent=2",
                "descend.epochs=1",
                "descend.crops_per_epoch=1",
                "head.kind=none",
            ),
        )[1]
    )
    with pytest.raises(BadInput, match="no filters that came from markers"):
        list(inspect_model(find_model(bench.project.folder, "other"), tmp_path / "out"))
