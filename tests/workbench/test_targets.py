"""Which file tells what an image should become, and the classes that label maps bring."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile

from fieldmark.checkpoint import ClassSpec, header_of
from fieldmark.core.files import write_atomic
from fieldmark.core.fingerprint import file_hash
from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile, BadInput, BadRecipe
from fieldmark.images import open_image
from fieldmark.images.png import encode_png
from fieldmark.recipes import PredictRecipe
from fieldmark.recipes.data import DataConfig, MaskConfig, SplitConfig, TargetConfig
from fieldmark.testing.drawn import draw_discs
from fieldmark.testing.projects import drawn_images
from fieldmark.testing.worker import use_fake_worker
from fieldmark.workbench import Workbench
from fieldmark.workbench.fitting import class_specs
from fieldmark.workbench.loose.pairs import gather, pairs_in
from fieldmark.workbench.targets import by_legend, classes_for, facts_of, named_classes

OWN = (ClassSpec(id=4, name="ground", value=1), ClassSpec(id=9, name="disc", value=2))


def put(path: Path, values: object) -> Path:
    write_atomic(path, encode_png(np.array(values, np.uint8)))
    return path


@pytest.fixture
def bench(tmp_path):
    drawn_images(tmp_path / "images", images=3)
    with Workbench.init(tmp_path / "project", ("ground", "disc")) as opened:
        opened.add([tmp_path / "images"])
        yield opened


def labels(folder: Path, *, images: int = 3, values: tuple[int, int] = (0, 1), ending: str = "") -> Path:
    """A label map for each drawn image."""
    for index in range(images):
        mask = draw_discs(61, 75, seed=index).mask
        put(folder / f"drawn{index}{ending}.png", np.where(mask == 1, values[1], values[0]))
    return folder


def data(folder: Path | None, **target: object) -> DataConfig:
    return DataConfig(target=TargetConfig(**{"kind": "labels", "folder": str(folder) if folder else None, **target}))


def test_files_belong_to_the_images_of_their_stem(bench, tmp_path):
    folder = labels(tmp_path / "maps", images=2, ending="_mask")
    facts = facts_of(bench.collection.all(), data(folder))
    assert [Path(fact.get("target", "")).name for fact in facts] == ["drawn0_mask.png", "drawn1_mask.png", ""]
    assert facts[0]["target_hash"] == file_hash(folder / "drawn0_mask.png")


def test_a_column_of_the_images_parts_them(bench, tmp_path):
    table = tmp_path / "images" / "table.csv"
    table.write_text("path,patient,time\n" + "".join(f"drawn{n}.png,P{n // 2},{n}\n" for n in range(3)))
    bench.add([table], layout="csv")
    images = bench.collection.all()

    def told(by: str) -> list[str]:
        return [fact["column"] for fact in facts_of(images, DataConfig(split=SplitConfig(by=by)))]

    assert told("patient") == ["P0", "P0", "P1"]
    assert told("column:time") == ["0", "1", "2"]
    assert told("time_idx") == told("group") == told("image") == ["", "", ""]
    with pytest.raises(BadInput, match=r"'pateint'.*Did you mean 'patient'\?.*Columns here: folder, patient, time"):
        told("pateint")
    with pytest.raises(BadInput, match="column:time for the column, or time_idx for the planes"):
        told("time")


def test_a_fit_says_which_part_each_patient_is_in(bench, tmp_path, monkeypatch):
    use_fake_worker(monkeypatch)
    folder = labels(tmp_path / "maps")
    table = tmp_path / "images" / "table.csv"
    table.write_text("path,patient\ndrawn0.png,a\ndrawn1.png,b\ndrawn2.png,a\n")
    bench.add([table], layout="csv")
    settings = (*FAST, f"data.target.folder={folder}", "data.split={by: patient, train: 0.5, validation: 0.5}")
    run, events = bench.fit("unet", name="cells", overrides=settings)
    list(events)
    parts = header_of(bench.project.models / run.model).details["split"]
    assert sorted([parts["train"], parts["validation"]]) == [["drawn0.png", "drawn2.png"], ["drawn1.png"]]


def test_label_maps_may_be_a_channel_beside_fractions(tmp_path, monkeypatch):
    """Frames of 32-bit phase and 8-bit labels: read as fractions, and the labels still are whole numbers."""
    use_fake_worker(monkeypatch)
    home = tmp_path / "frames"
    home.mkdir()
    for p in range(3):
        drawn = draw_discs(61, 75, seed=p)
        pixels = drawn.image.astype(np.float32).reshape(*drawn.mask.shape, -1)[..., 0] / 3
        tifffile.imwrite(home / f"im_c000_z000_t000_p{p:03d}.tif", pixels)
        tifffile.imwrite(home / f"im_c001_z000_t000_p{p:03d}.tif", np.where(drawn.mask == 1, 200, 3).astype(np.uint8))
    settings = (*FAST, "data.target.channels=[1]", "data.inputs=[0]", "prepare.normalize.statistic=max")
    with Workbench.init(tmp_path / "mixed") as bench:
        bench.add([home], layout="frames")
        run, events = bench.fit("unet", name="cells", overrides=settings)
        list(events)
        header = header_of(bench.project.models / run.model)
        with pytest.raises(BadInput, match="p000: holds float32 values; label maps hold whole numbers"):
            bench.fit("unet", overrides=(*FAST, "data.target.channels=[0]"))
    assert [spec.value for spec in header.classes] == [3, 200]
    assert header.preparation[-1] == {"step": "scale", "by": 1.0}, "the input's own type, not that of the labels"


def test_a_target_beside_what_is_seen_may_be_unknown_in_places(tmp_path, monkeypatch):
    """NaN in the channel of the target, as around a registered image; in a channel that is seen it stays refused."""
    use_fake_worker(monkeypatch)
    home = tmp_path / "frames"
    home.mkdir()
    for p in range(3):
        image = draw_discs(61, 75, seed=p).mask.astype(np.float32)
        tifffile.imwrite(home / f"im_c000_z000_t000_p{p:03d}.tif", image)
        image[:9] = np.nan
        tifffile.imwrite(home / f"im_c001_z000_t000_p{p:03d}.tif", 3 * image)
    with Workbench.init(tmp_path / "stained") as bench:
        bench.add([home], layout="frames")
        run, events = bench.fit("unet", name="stain", overrides=(*FAST, *STAIN, "data.inputs=[0]"))
        numbers = [event.metrics for event in events if event.metrics]
        assert all(np.isfinite([*one.values()]).all() for one in numbers)
        assert header_of(bench.project.models / run.model).target_preparation[-1]["mean"][0] > 0
        list(bench.predict("stain", out=tmp_path / "out", form="npy", recipe=PredictRecipe()))
        assert np.isfinite(np.load(tmp_path / "out/p000.npy", allow_pickle=False)).all()
        _, events = bench.fit("unet", name="both", overrides=(*FAST, *STAIN, "data.inputs=[0, 1]"))
        with pytest.raises(BadInput, match=r"p00.: holds pixels that are NaN or infinite"):
            list(events)


def test_slices_of_stacks_are_not_silently_predicted_alone(tmp_path, monkeypatch):
    """Frames given to `predict` as images: a network of stacks mirrors what lies above and below them."""
    use_fake_worker(monkeypatch)
    home = tmp_path / "frames"
    home.mkdir()
    for p, z, c in product(range(2), range(3), range(2)):
        image = draw_discs(61, 75, seed=3 * p + z).mask.astype(np.uint8) * (c + 1)
        put(home / f"im_c{c:03d}_z{z:03d}_t000_p{p:03d}.png", image)
    with Workbench.init(tmp_path / "stacks") as bench:
        bench.add([home], layout="frames")
        stacks = ("net.dims=2.5", "net.depth=3", "data.inputs=[0]", "train.epochs=1")
        list(bench.fit("unet", name="stain", overrides=(*FAST, *STAIN, *stacks))[1])
        events = list(bench.predict("stain", out=tmp_path / "out", form="npy", recipe=PredictRecipe()))
        assert not [event for event in events if "mirrored" in event.message]
        bench.add([home / "im_c000_z001_t000_p000.png"])
        events = list(bench.predict("stain", out=tmp_path / "all", form="npy", recipe=PredictRecipe()))
    (said,) = [event.message for event in events if "mirrored" in event.message]
    assert said.startswith("im_c000_z001_t000_p000.png: one slice, and the model sees several")
    stack = np.load(tmp_path / "all/p000.npy", allow_pickle=False).squeeze()
    alone = np.load(tmp_path / "all/im_c000_z001_t000_p000.npy", allow_pickle=False).squeeze()
    assert not np.allclose(stack[1], alone, atol=1e-3)


def test_label_maps_may_lie_beside_their_images(bench, tmp_path):
    labels(tmp_path / "images", ending="-label")
    facts = facts_of(bench.collection.all(), data(tmp_path / "images"))
    assert [Path(fact["target"]).name for fact in facts] == [f"drawn{n}-label.png" for n in range(3)]


def test_files_in_the_order_of_their_names(bench, tmp_path):
    for name in "zxy":
        put(tmp_path / "maps" / f"{name}.png", np.zeros((61, 75)))
    facts = facts_of(bench.collection.all(), data(tmp_path / "maps", pair_by="order"))
    assert [Path(fact["target"]).stem for fact in facts] == ["x", "y", "z"]
    (tmp_path / "maps" / "x.png").unlink()
    with pytest.raises(BadInput, match=r"maps holds 2 files and there are 3 images.*order of their names"):
        facts_of(bench.collection.all(), data(tmp_path / "maps", pair_by="order"))


@pytest.mark.parametrize("ending", ["", "_mask", " 1"])
def test_names_with_numbers_are_counted_on_both_sides(tmp_path, ending):
    """As text `1_mask` comes after `10_mask`, and `1` before `10`: four of twelve images had another's map."""
    for n in range(1, 13):
        put(tmp_path / "images" / f"{n}.png", np.zeros((8, 8)))
        put(tmp_path / "maps" / f"{n}{ending}.png", np.zeros((8, 8)))
    with Workbench.init(tmp_path / "numbered", ("ground", "disc")) as bench:
        bench.add([tmp_path / "images"])
        facts = facts_of(bench.collection.all(), data(tmp_path / "maps", pair_by="order"))
    found = {Path(fact["uri"]).stem: Path(fact["target"]).stem for fact in facts}
    assert found == {str(n): f"{n}{ending}" for n in range(1, 13)}


def test_maps_of_several_folders_stay_with_their_images(tmp_path):
    pairs, names = [], []
    for part in ("one", "two"):
        numbers = [n for n in range(1, 13) if (n % 2 == 0) == (part == "two")]
        files = [[put(tmp_path / what / part / f"{n}.png", [[n]]) for n in numbers] for what in ("images", "maps")]
        pairs.append(pairs_in(tmp_path / "images" / part, tmp_path / "maps" / part))
        assert [*pairs[-1].images] == files[0]
        names += [path.name for path in pairs[-1].images]
    gather(pairs, names, tmp_path / "gathered")
    with Workbench.init(tmp_path / "numbered", ("ground", "disc")) as bench:
        bench.add([path for one in pairs for path in one.images])
        facts = facts_of(bench.collection.all(), data(tmp_path / "gathered", pair_by="order"))
    for fact in facts:
        with open_image(Path(fact["target"])) as source:
            assert source.read(Box.whole(source.shape)).item() == int(Path(fact["uri"]).stem)


@pytest.mark.parametrize("pair_by", ["stem", "order"])
def test_a_label_map_that_is_a_link_out_of_its_folder_is_refused(bench, tmp_path, pair_by):
    """Passed over, it left its image without a target, and by order gave it the map of another."""
    maps = labels(tmp_path / "maps")
    put(tmp_path / "elsewhere" / "d.png", np.zeros((61, 75)))
    (maps / "drawn1.png").unlink()
    (maps / "drawn1.png").symlink_to("../elsewhere/d.png")
    with pytest.raises(BadInput, match=r"drawn1\.png.* is a link that leads out of the folder\. Put the file itself"):
        facts_of(bench.collection.all(), data(maps, pair_by=pair_by))
    (maps / "drawn1.png").unlink()
    (maps / "drawn1.png").symlink_to("drawn2.png")
    facts = facts_of(bench.collection.all(), data(maps, pair_by=pair_by))
    assert facts[1]["target_hash"] == file_hash(maps / "drawn2.png")


def test_a_folder_of_nothing_but_links_says_why_it_holds_no_image(bench, tmp_path):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps/other.png").symlink_to("../images/drawn0.png")
    with pytest.raises(BadInput, match=r"other\.png is a link that leads out of the folder"):
        facts_of(bench.collection.all(), data(tmp_path / "maps"))


def test_pairs_of_which_one_is_a_link_out_of_its_folder_are_refused(tmp_path):
    """Linked on both sides, they were silently left out of the fit."""
    for what in ("images", "maps"):
        put(tmp_path / what / "1.png", [[1]])
        put(tmp_path / "elsewhere" / what / "2.png", [[1]])
        (tmp_path / what / "2.png").symlink_to(f"../elsewhere/{what}/2.png")
    with pytest.raises(BadInput, match=r"images/2\.png is a link that leads out of the folder"):
        pairs_in(tmp_path / "images", tmp_path / "maps")


@pytest.mark.parametrize(
    ("images", "files", "said"),
    [
        # a digit comes before `_mask`, and after the image's dot
        (
            ["i.png", "i_2.png", "i_3.png"],
            ["i_mask.png", "i_2_mask.png", "i_3_mask.png"],
            "i_2_mask.png would be .*i.png",
        ),
        (["1.png", "2.png", "3.png"], ["2.png", "3.png", "4.png"], r"2.png would be .* 1.png \(only .*: 1, 4\)"),
        (["1.png", "2.png", "3.png"], ["a.png", "b.png", "c.png"], None),
        (["1.png", "2.png", "3.png"], ["1_seg.png", "2_seg.png", "other.png"], None),
    ],
)
def test_the_order_never_gives_an_image_the_file_of_another(tmp_path, images, files, said):
    for folder, names in (("images", images), ("maps", files)):
        for name in names:
            put(tmp_path / folder / name, np.zeros((8, 8)))
    with Workbench.init(tmp_path / "ordered", ("ground", "disc")) as bench:
        bench.add([tmp_path / "images"])
        if said is None:
            facts = facts_of(bench.collection.all(), data(tmp_path / "maps", pair_by="order"))
            assert [Path(fact["target"]).name for fact in facts] == files
            return
        with pytest.raises(BadInput, match=said):
            facts_of(bench.collection.all(), data(tmp_path / "maps", pair_by="order"))


def test_errors_name_what_was_found(bench, tmp_path):
    images = bench.collection.all()
    with pytest.raises(BadFile, match="no such folder"):
        facts_of(images, data(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="empty holds no image"):
        facts_of(images, data(tmp_path / "empty"))
    put(tmp_path / "other" / "strange.png", np.zeros((2, 2)))
    with pytest.raises(BadInput, match=r"Images: drawn0\.png, drawn1\.png, drawn2\.png; files: strange\.png"):
        facts_of(images, data(tmp_path / "other"))
    with pytest.raises(BadInput, match=r"data\.target\.folder=FOLDER, or --set data\.target\.channels"):
        facts_of(images, data(None))


def test_every_image_with_a_target_needs_its_mask(bench, tmp_path):
    config = data(labels(tmp_path / "maps")).model_copy(update={"mask": MaskConfig(folder=str(tmp_path / "masks"))})
    put(tmp_path / "masks" / "drawn1.png", np.zeros((61, 75)))
    with pytest.raises(BadInput, match=r"no mask for drawn0\.png, drawn2\.png"):
        facts_of(bench.collection.all(), config)


def test_classes_are_the_values_of_label_maps(bench, tmp_path):
    config = data(labels(tmp_path / "maps", values=(0, 7)), ignore=3)
    put(tmp_path / "maps" / "drawn2.png", np.full((61, 75), 3))
    facts = facts_of(bench.collection.all(), config)
    assert [(c.name, c.value) for c in classes_for(facts, config, ())] == [("background", 0), ("class 7", 7)]
    assert [(c.id, c.name, c.value) for c in classes_for(facts, config, OWN)] == [(4, "ground", 0), (9, "disc", 7)]


@pytest.fixture
def exported(bench, tmp_path) -> Path:
    """Two label maps, imported and exported again: 20 pixels of the one class, 12 of the other, the rest unknown."""
    painted = np.zeros((61, 75), np.uint8)
    painted[3:7, 2:7], painted[20:24, 30:33] = 1, 2
    for index in range(2):
        put(tmp_path / "painted" / f"drawn{index}.png", painted)
    bench.import_labels(tmp_path / "painted", "masks", label_offset=0)
    bench.export_labels(tmp_path / "exported", "masks")
    return tmp_path / "exported"


def test_what_is_unknown_in_exported_maps_is_no_class(bench, exported, tmp_path, monkeypatch):
    """A project writes 0 where nobody said anything, and says so in the legend beside."""
    use_fake_worker(monkeypatch)
    run, events = bench.fit("unet", overrides=(*FAST, f"data.target.folder={exported}"))
    notes = [event.message for event in events if event.phase == "note"]
    assert "In label maps 1 is 'ground', 2 is 'disc'; 0 means unknown." in notes
    assert not any("stroke" in note for note in notes)
    assert [(c.name, c.value) for c in header_of(bench.project.models / run.model).classes] == [
        ("ground", 1),
        ("disc", 2),
    ]


def test_the_legend_names_classes_whatever_their_order_is_now(bench, exported):
    bench.labels.reorder([record.id for record in reversed(bench.labels.classes())])
    now = class_specs(bench.labels)
    config, legend = by_legend(data(exported), bench.labels.classes())
    found = classes_for(facts_of(bench.collection.all(), config), config, now, legend)
    assert [(c.name, c.value) for c in found] == [("ground", 1), ("disc", 2)]
    assert {c.name: c.id for c in found} == {c.name: c.id for c in now}
    said = data(exported, ignore=255)
    assert by_legend(said, bench.labels.classes())[0].target.ignore == 255
    assert by_legend(data(labels(exported.parent / "maps")), bench.labels.classes())[1] == {}


def test_values_of_label_maps_are_told_and_strokes_that_teach_nothing_are_not(bench, exported, tmp_path, monkeypatch):
    use_fake_worker(monkeypatch)
    folder = labels(tmp_path / "maps", values=(0, 7))
    put(folder / "drawn2.png", np.full((61, 75), 9))
    _, events = bench.fit("unet", overrides=(*FAST, f"data.target.folder={folder}"))
    notes = [event.message for event in events if event.phase == "note"]
    assert notes == [
        "In label maps 0 is 'background', 7 is 'ground', 9 is 'disc'. "
        "Where 0 means unknown: --set data.target.ignore=0."
    ]


def test_one_class_of_the_project_is_what_is_not_background():
    found = named_classes([0, 5], OWN[1:])
    assert [(c.name, c.value) for c in found] == [("background", 0), ("disc", 5)]
    assert found[1].id == 9
    assert found[0].id not in {spec.id for spec in OWN}


def test_other_classes_never_take_the_projects_ids():
    assert not {spec.id for spec in named_classes([0, 1, 2, 3], OWN)} & {spec.id for spec in OWN}


def test_single_objects_are_no_classes(bench, tmp_path):
    with pytest.raises(BadInput, match="300 values: these are single objects"):
        named_classes(range(300))
    config = data(labels(tmp_path / "maps"), objects=True)
    assert [c.value for c in classes_for(facts_of(bench.collection.all(), config), config, ())] == [0, 1]


@pytest.mark.parametrize(("values", "said"), [([], "no value"), ([4], "only the value 4")])
def test_one_class_cannot_be_told_apart(values, said):
    with pytest.raises(BadInput, match=said):
        named_classes(values)


@pytest.mark.parametrize(
    ("values", "target", "said"),
    [
        ((255, 255), {"ignore": 255}, "hold nothing beside 255, which data.target.ignore says is unknown"),
        ((3, 255), {"ignore": 255}, "hold the value 3 alone beside 255, which data.target.ignore says is unknown"),
        ((3, 3), {}, "hold only the value 3"),
    ],
)
def test_label_maps_of_unknown_pixels_name_the_setting_that_says_so(bench, tmp_path, values, target, said):
    config = data(labels(tmp_path / "maps", values=values), **target)
    with pytest.raises(BadInput, match=said):
        classes_for(facts_of(bench.collection.all(), config), config, ())


def test_strokes_have_the_projects_classes_and_images_none():
    assert classes_for([], DataConfig(), OWN) == OWN
    assert classes_for([], DataConfig(target=TargetConfig(kind="image")), OWN) == ()


FAST = (
    "net.filters=[4,8]",
    "train.crop=[32,32]",
    "train.epochs=3",
    "train.crops_per_epoch=48",
    "train.lr=0.02",
    "data.target.kind=labels",
)
STAIN = ("data.target.kind=image", "data.target.channels=[1]")


def test_a_fit_on_label_maps_predicts_their_values(bench, tmp_path, monkeypatch):
    use_fake_worker(monkeypatch)
    folder = labels(tmp_path / "maps", values=(0, 7))
    settings = (*FAST, f"data.target.folder={folder}", "data.split.validation=0.34", "data.split.train=0.66")
    run, events = bench.fit("unet", name="cells", overrides=settings)
    told = list(events)
    assert any("val_dice" in event.metrics for event in told)
    header = header_of(bench.project.models / run.model)
    assert header.outputs[0] == "classes"
    assert [(spec.name, spec.value) for spec in header.classes] == [("ground", 0), ("disc", 7)]
    assert len(header.taught) == 3
    list(bench.predict("cells", ["drawn2.png"], out=tmp_path / "out", form="png", recipe=PredictRecipe()))
    with open_image(next((tmp_path / "out").glob("*.png"))) as source:
        assert set(np.unique(source.read(_whole(source.shape)))) == {0, 7}


@pytest.mark.parametrize(("monitor", "said"), [("val_loss", True), ("loss", False)])
def test_a_fit_that_cannot_end_early_says_so(bench, tmp_path, monkeypatch, monitor, said):
    use_fake_worker(monkeypatch)
    settings = (*FAST, f"data.target.folder={labels(tmp_path / 'maps')}", "data.split={train: 1, validation: 0}")
    _, events = bench.fit("unet", overrides=(*settings, f"train.early={{monitor: {monitor}, patience: 1}}"))
    assert any("Nothing validates, so val_loss never ends the fit" in event.message for event in events) == said


def test_a_fit_of_no_epoch_says_that_it_learns_nothing(bench, tmp_path, monkeypatch):
    use_fake_worker(monkeypatch)
    settings = (*FAST, f"data.target.folder={labels(tmp_path / 'maps')}")
    for epochs in (0, 1):
        _, events = bench.fit("unet", overrides=(*settings, f"train.epochs={epochs}"))
        assert ("train.epochs is 0: targets learns nothing" in "".join(e.message for e in events)) == (epochs == 0)


@pytest.mark.parametrize(
    ("family", "asked", "said"),
    [
        (
            "unet",
            "train.early.monitor=val_los",
            r"train\.early\.monitor: 'val_los' .* loss, val_loss, val_dice\. .*'val_loss'",
        ),
        ("unet", "train.early.monitor=val_pearson", "'val_pearson' is no number of this fit"),
        ("autoencoder", "descend.early.patience=2", r"descend\.early\.monitor: 'val_loss' .* has loss\. .*'loss'"),
    ],
)
def test_a_number_that_never_comes_cannot_end_a_fit(bench, tmp_path, monkeypatch, family, asked, said):
    """It is said before the first step: the loss of nothing, and the embedding of an epoch, would be for nothing."""
    use_fake_worker(monkeypatch)
    own = (*FAST, f"data.target.folder={labels(tmp_path / 'maps')}") if family == "unet" else ()
    _, events = bench.fit(family, overrides=(*own, asked))
    seen = []
    with pytest.raises(BadRecipe, match=said):
        seen.extend(iter(lambda: next(events).phase, None))
    assert set(seen) <= {"note"}


@pytest.mark.parametrize(("hidden", "what"), [(0, "validates"), (1, "teaches"), (2, "teaches")])
def test_a_mask_that_leaves_nothing_is_refused(bench, tmp_path, monkeypatch, hidden, what):
    """Of validation alone: no val_ numbers, and nothing chooses the epoch. Of what teaches: a loss of 0."""
    use_fake_worker(monkeypatch)
    for n in range(3):
        shown = (n != 0, n == 0, False)[hidden]
        put(tmp_path / "masks" / f"drawn{n}.png", np.full((61, 75), 255 * shown))
    settings = (*FAST, f"data.target.folder={labels(tmp_path / 'maps')}", f"data.mask.folder={tmp_path / 'masks'}")
    split = "data.split={by: image, order: first, train: 0.66, validation: 0.34}"
    names = r"\(drawn0\.png\)" if what == "validates" else r"\(drawn1\.png, drawn2\.png\)"
    _, events = bench.fit("unet", overrides=(*settings, split))
    with pytest.raises(BadInput, match=rf"No pixel counts in what {what} {names}: the mask .* \(data\.mask\) hides"):
        assert not [event for event in events if event.phase == "targets"]


@pytest.mark.parametrize(("unknown", "what"), [((0,), "validates"), ((1, 2), "teaches")])
def test_label_maps_that_tell_nothing_where_it_is_needed_are_refused(bench, tmp_path, monkeypatch, unknown, what):
    use_fake_worker(monkeypatch)
    folder = labels(tmp_path / "maps")
    for n in unknown:
        put(folder / f"drawn{n}.png", np.full((61, 75), 9))
    split = "data.split={by: image, order: first, train: 0.66, validation: 0.34}"
    settings = (*FAST, f"data.target.folder={folder}", "data.target.ignore=9", split)
    _, events = bench.fit("unet", overrides=settings)
    with pytest.raises(BadInput, match=rf"No pixel counts in what {what} .*: nothing is known there"):
        assert not [event for event in events if event.phase == "targets"]


@pytest.mark.parametrize("declared", ["classes=2", "objects=true"])
def test_a_fit_begins_where_any_pixel_is_known_and_nowhere_else(bench, tmp_path, monkeypatch, declared):
    """Classes that a setting declares say nothing of what the maps hold: with all unknown the loss would be 0."""
    use_fake_worker(monkeypatch)
    folder = labels(tmp_path / "maps", values=(255, 255))
    settings = (*FAST, f"data.target.folder={folder}", f"data.target.{declared}", "data.target.ignore=255")
    _, events = bench.fit("unet", overrides=settings)
    said = r"No pixel of the 3 label maps is known: each value is 255, which data\.target\.ignore says is unknown"
    with pytest.raises(BadInput, match=said):
        list(events)
    last = np.full((61, 75), 255)
    last[-1, -1] = 1
    put(folder / "drawn2.png", last)
    _, events = bench.fit("unet", overrides=(*settings, "data.split={train: 1, validation: 0}"))
    assert next(event for event in events if event.phase == "targets")
    events.close()


def test_another_label_map_is_another_fit(bench, tmp_path, monkeypatch):
    use_fake_worker(monkeypatch)
    folder = labels(tmp_path / "maps")
    run, events = bench.fit("unet", overrides=(*FAST, f"data.target.folder={folder}"))
    next(event for event in events if event.phase == "targets")
    events.close()
    put(folder / "drawn0.png", np.zeros((61, 75)))
    _, again = bench.resume(run.id)
    with pytest.raises(BadFile, match=r"drawn0\.png \(of drawn0\.png\).*changed"):
        list(again)


def _whole(shape):
    from fieldmark.core.geometry import Box

    return Box.whole(shape)
