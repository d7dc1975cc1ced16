"""Masks that a project has exported, as the truth: their legend says what their values mean, and that 0 is unknown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage.measure import label

from fieldmark.core.files import write_atomic
from fieldmark.core.geometry import Box
from fieldmark.errors import BadInput
from fieldmark.images import encode_png, open_image
from fieldmark.labels.raster import Polyline
from fieldmark.recipes import PredictRecipe, validate
from fieldmark.recipes.evaluate import EvaluateRecipe
from fieldmark.testing.drawn import draw_discs

GROUND = ((5.0, 5.0), (50.0, 5.0))
ACROSS = ((5.0, 40.0), (55.0, 40.0))


def pixels(path: Path) -> np.ndarray:
    with open_image(path) as source:
        return source.read(Box.whole(source.shape))[0, 0, 0]


def painted(bench, folder: Path, kind: str, *paths: tuple[str, tuple[tuple[float, float], ...]]) -> Path:
    """A folder of exported labels of the image that taught nothing, with these strokes."""
    classes = {one.name: one.id for one in bench.labels.classes()}
    record = bench.collection.find("drawn2.png")
    for name, path in paths:
        bench.labels.draw(record.id, classes[name], Polyline(np.array(path), 5.0), "ann")
    bench.export_labels(folder, kind)
    return folder


def overlap(said: np.ndarray, right: np.ndarray, value: int) -> float:
    """Dice of one class where somebody judged."""
    known = right != 0
    both = np.sum((said == value) & (right == value))
    return float(2 * both / (np.sum((said == value) & known) + np.sum(right == value)))


@pytest.mark.parametrize("kind", ["masks", "scribbles"])
def test_unpainted_pixels_of_exported_masks_are_not_scored(bench, tmp_path, kind):
    name = bench.labels.classes()[0].name
    truth = painted(bench, tmp_path / "out", kind, (name, GROUND), ("disc", ACROSS))
    result = bench.evaluate("tiny", truth)
    said = pixels(bench.project.predictions / "tiny" / "drawn2.ome.zarr")
    right = pixels(truth / "drawn2.png")
    assert set(np.unique(right)) == {0, 1, 2}
    for value, klass in enumerate((name, "disc"), start=1):
        assert result.summary["classes"][klass]["dice"] == pytest.approx(overlap(said, right, value))
    assert any("0 is unknown" in note for note in result.notes)


def test_exported_masks_of_the_first_class_alone_are_not_taken_for_masks_of_0_and_1(bench, tmp_path):
    name = bench.labels.classes()[0].name
    truth = painted(bench, tmp_path / "out", "masks", (name, GROUND))
    assert set(np.unique(pixels(truth / "drawn2.png"))) == {0, 1}
    kept = {path.name for path in truth.glob("*.png")} - {"drawn2.png"}
    for other in kept:
        (truth / other).unlink()
    found = bench.evaluate("tiny", truth).summary
    said = pixels(bench.project.predictions / "tiny" / "drawn2.ome.zarr")
    right = pixels(truth / "drawn2.png")
    assert found["classes"][name]["recall"] == pytest.approx(np.mean(said[right == 1] == 1))
    assert found["baselines"]["majority"][name]["dice"] == 1.0


def test_the_legend_counts_and_not_the_order_of_the_classes(bench, tmp_path):
    name = bench.labels.classes()[0].name
    truth = painted(bench, tmp_path / "out", "masks", (name, GROUND), ("disc", ACROSS))
    turned = tmp_path / "turned"
    values = pixels(truth / "drawn2.png")
    write_atomic(turned / "drawn2.png", encode_png(np.choose(values, [0, 2, 1]).astype(np.uint8)))
    legend = json.loads((truth / "fieldmark-labels.json").read_text())
    legend["values"] = {"2": name, "1": "disc"}
    (turned / "fieldmark-labels.json").write_text(json.dumps(legend))
    one, other = (bench.evaluate("tiny", folder, only={"drawn2.png"}).summary for folder in (truth, turned))
    assert one["classes"] == other["classes"]
    legend["values"]["1"] = "blob"
    (turned / "fieldmark-labels.json").write_text(json.dumps(legend))
    with pytest.raises(BadInput, match=r"drawn2\.png: holds the value 1, which its legend says is 'blob'"):
        bench.evaluate("tiny", turned)


def test_exported_masks_number_no_objects(bench, tmp_path):
    truth = painted(bench, tmp_path / "out", "masks", ("disc", ACROSS))
    with pytest.raises(BadInput, match="holds masks of classes that a project has exported"):
        bench.evaluate("tiny", truth, recipe=validate(EvaluateRecipe, {"instances": True}))


def test_unpainted_pixels_of_exported_masks_have_no_color_in_figures(bench, tmp_path):
    name = bench.labels.classes()[0].name
    truth = painted(bench, tmp_path / "out", "masks", (name, GROUND))
    for other in truth.glob("drawn[01].png"):
        other.unlink()
    recipe = PredictRecipe(figures=True, propagate="none")
    list(bench.predict("tiny", ["drawn2.png"], out=tmp_path / "made", form="npy", recipe=recipe, truth=truth))
    with open_image(tmp_path / "made" / "figures" / "drawn2.png") as source:
        panel = source.read(Box.whole(source.shape))[0, :, 0, :, 79 : 79 + 75]
    right = pixels(truth / "drawn2.png")
    assert not panel[:, right == 0].any()
    assert panel[:, right == 1].any(axis=0).all()


@pytest.fixture
def stacked(bench, folder):
    """The project with a stack of four slices more, of which two are painted."""
    slices = [draw_discs(61, 75, seed=seed).image for seed in range(20, 24)]
    tifffile.imwrite(folder / "stack.ome.tif", np.stack(slices), metadata={"axes": "ZYXS"}, ome=True, photometric="rgb")
    bench.add([folder])
    classes = {one.name: one.id for one in bench.labels.classes()}
    record = bench.collection.find("stack.ome.tif")
    for z, name, path in ((z, *one) for z in (1, 3) for one in (("ground", GROUND), ("disc", ACROSS))):
        bench.labels.draw(record.id, classes[name], Polyline(np.array(path), 5.0), "ann", z=z)
    return bench


def test_exported_planes_of_a_stack_are_its_truth(stacked, tmp_path):
    truth = tmp_path / "out"
    stacked.export_labels(truth, "masks")
    assert {path.name for path in truth.glob("stack*")} == {"stack_t0_z1.png", "stack_t0_z3.png"}
    result = stacked.evaluate("tiny", truth, only={"stack.ome.tif"}, report=tmp_path / "report.html")
    assert result.summary["images"] == 1
    assert not [note for note in result.notes if "without an image" in note]
    with open_image(stacked.project.predictions / "tiny" / "stack.ome.zarr") as source:
        said = source.read(Box.whole(source.shape))[0, 0]
    right = {z: pixels(truth / f"stack_t0_z{z}.png") for z in (1, 3)}
    for value, klass in ((1, "ground"), (2, "disc")):
        dice = np.mean([overlap(said[z], right[z], value) for z in right])
        assert result.summary["classes"][klass]["dice"] == pytest.approx(dice)


def test_planes_that_do_not_fit_their_stack_are_refused(stacked, tmp_path):
    truth = tmp_path / "out"
    stacked.export_labels(truth, "masks")
    write_atomic(truth / "stack_t0_z4.png", (truth / "stack_t0_z3.png").read_bytes())
    with pytest.raises(
        BadInput, match=r"stack_t0_z4\.png: is named as plane t0, z4 of stack\.ome\.tif, which has 1 times"
    ):
        stacked.evaluate("tiny", truth)
    (truth / "stack_t0_z4.png").rename(truth / "stack.png")
    with pytest.raises(BadInput, match="both of stack"):
        stacked.evaluate("tiny", truth)


def test_objects_of_a_stack_may_be_numbered_plane_by_plane(stacked, tmp_path):
    record = stacked.collection.find("stack.ome.tif")
    list(
        stacked.predict(
            "tiny", [record.name], out=tmp_path / "said", form="tiff", recipe=PredictRecipe(propagate="none")
        )
    )
    said = tifffile.imread(tmp_path / "said" / "stack.tif")
    for z in (0, 2):  # where nothing is painted, which a prediction takes over
        numbered = label(said[z] == 2).astype(np.uint8)
        write_atomic(tmp_path / "objects" / f"stack_t0_z{z}.png", encode_png(numbered))
    recipe = validate(EvaluateRecipe, {"instances": True})
    found = stacked.evaluate("tiny", tmp_path / "objects", recipe=recipe).summary["classes"]["disc"]
    assert found["ap50"] == 1.0
