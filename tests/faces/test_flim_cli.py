"""The commands of marker-based filter learning, on drawn data sets, with jobs in the test's own process."""

from __future__ import annotations

import json
import shlex
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from fieldmark.checkpoint import load
from fieldmark.core.fingerprint import file_hash
from fieldmark.core.geometry import Box
from fieldmark.faces.cli import main
from fieldmark.features.opf import read_opf
from fieldmark.images import encode_png, open_image

pytestmark = pytest.mark.usefixtures("worker_here")

ARCH = {
    "features": {
        "type": "sequential",
        "layers": {
            "norm1": {"operation": "m_norm2d", "params": {"kernel_size": 3}},
            "conv1": {
                "operation": "conv2d",
                "params": {"kernel_size": 3, "stride": 1, "padding": 1, "out_channels": 6,
                           "number_of_kernels_per_marker": 4},
            },
            "activation1": {"operation": "relu", "params": {"inplace": True}},
            "pool1": {"operation": "max_pool2d", "params": {"kernel_size": 3, "stride": 2, "padding": 1}},
        },
    },
    "classifier": {
        "layers": {
            "linear1": {"operation": "linear", "params": {"in_features": -1, "out_features": 8}},
            "relu": {"operation": "relu", "params": {"inplace": True}},
            "linear2": {"operation": "linear", "params": {"in_features": 8, "out_features": 2}},
        }
    },
}  # fmt: skip


@pytest.fixture
def cli(cli):
    """Run `fieldmark flim`."""
    return partial(cli, "flim")


def stripes(klass: int, seed: int, side: int = 24) -> np.ndarray:
    """(y, x, 3) uint8: stripes that lie (class 1) or stand (class 2), noisy, with a random phase."""
    rng = np.random.default_rng(seed)
    at = (np.mgrid[:side, :side][klass - 1] + rng.integers(6)) // 3 % 2
    gray = 60 + 120 * at + rng.normal(0, 8, (side, side))
    return np.stack([gray, gray * 0.8, 200 - gray * 0.5], axis=-1).clip(0, 255).astype(np.uint8)


def write_marks(path: Path, marks: list[tuple[int, int, int]], side: int = 24) -> None:
    lines = [f"{len(marks)} {side} {side}", *(f"{x} {y} -1 {label}" for x, y, label in marks)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The document's names: `lids-dataset`, splits, `arch.json`, `markers-dir` (marker files alone)."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "lids-dataset"
    folder.mkdir()
    names = {1: [], 2: []}
    for klass in (1, 2):
        for number in range(6):
            name = f"{klass:06d}_{number:08d}.png"
            (folder / name).write_bytes(encode_png(stripes(klass, 10 * klass + number)))
            names[klass].append(name)
    (tmp_path / "train_split.txt").write_text("".join(f"{n}\n" for k in (1, 2) for n in names[k][:4]))
    (tmp_path / "val_split.txt").write_text("".join(f"{n}\n" for k in (1, 2) for n in names[k][4:]))
    for klass in (1, 2):
        marks = [(x, y, klass) for y in range(8, 12) for x in range(6, 16)]
        write_marks(tmp_path / "markers-dir" / names[klass][0].replace(".png", ".txt"), marks)
    (tmp_path / "arch.json").write_text(json.dumps(ARCH))
    return tmp_path


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_filters_and_classifier_without_an_architecture(cli, here):
    before = snapshot(here / "lids-dataset")
    status, out, err = cli("train", "-d", "lids-dataset", "-ts", "train_split.txt", "-md", "markers-dir",
                           "-od", "outputs", "-mn", "m.pt", "-g", "0", "-e", "3")  # fmt: skip
    assert (status, out) == (0, "Model outputs/m.pt\n"), err
    assert "GPU" in err
    assert (here / "outputs/m.pt/model.json").is_file()
    status, out, err = cli("validate", "-d", "lids-dataset", "-vs", "val_split.txt", "-mp", "outputs/m.pt")
    assert status == 0, err
    assert [line.partition(":")[0] for line in out.splitlines()][:2] == ["accuracy", "kappa"]
    assert snapshot(here / "lids-dataset") == before


TRAIN = ("train", "-d", "lids-dataset", "-ts", "train_split.txt", "-md", "markers-dir", "-od", "outputs")


def test_several_values_and_both_spellings(cli, here):
    """Values up to the next option; hyphens and underscores; `=`; numbers below 0 are values."""
    status, _, err = cli(*TRAIN, "--model_filename=m", "-e", 1, "--intermediate", "-l", "branches.0.0", "1.0",
                         "-f", "npy", "-g", "0", "1", "-c")  # fmt: skip
    assert status == 0, err
    for layer, channels, side in (("branches.0.0", 10, 12), ("1.0", 10, 24)):
        files = sorted((here / "outputs/intermediate-outputs" / layer).iterdir())
        assert len(files) == 8
        assert np.load(files[0], allow_pickle=False).shape == (channels, side, side)


def test_an_option_that_takes_several_values_needs_one(cli, here):
    status, _, err = cli(*TRAIN, "-mn", "m", "-l", "-i")
    assert status == 2
    assert "'-l' needs one value or more" in err


def test_a_support_vector_machine_and_layers_alone(cli, here):
    status, _, err = cli(*TRAIN, "-mn", "svm", "-s", "-dstd", "0.1", "-smn", "svm.joblib")
    assert status == 0, err
    assert "--default-std is taken and not used" in err
    assert "--svm-filename is taken and not used" in err
    status, out, err = cli(
        "validate",
        "-d",
        "lids-dataset",
        "-vs",
        "val_split.txt",
        "-mp",
        "outputs/svm",
        "--json",
        "-s",
        "-smp",
        "s.joblib",
    )
    assert status == 0
    assert "--svm-path is taken and not used" in err
    assert "--default-std" not in err
    values = json.loads(out)
    assert values["images"] == 4
    assert values["accuracy"] >= 0.75
    status, _, err = cli(*TRAIN, "-mn", "bare", "-i")
    assert status == 0
    assert "-i alone trains no classifier" in err
    status, _, err = cli("validate", "-d", "lids-dataset", "-vs", "val_split.txt", "-mp", "outputs/bare")
    assert status == 1
    assert "no classes of images" in err


CONV = {"kernel_size": 3, "padding": 1, "out_channels": 4, "number_of_kernels_per_marker": 3}


@pytest.mark.parametrize(
    "layers",
    [
        {"c": ("conv2d", CONV), "p": ("avg_pool2d", {"kernel_size": 2, "stride": 2})},
        {"c": ("conv2d", CONV), "u": ("unfold", {"kernel_size": 2, "stride": 2})},
        {"c": ("conv2d", CONV | {"kernel_size": 19, "padding": 0}), "a": ("adap_avg_pool2d", {"output_size": 3})},
        {"c": ("conv2d", CONV), "u": ("unfold", {"kernel_size": 2, "stride": 2}),
         "f": ("fold", {"output_size": 24, "kernel_size": 2, "stride": 2})},
    ],
)  # fmt: skip
def test_a_classifier_is_loaded_whatever_the_least_image_of_its_features(cli, here, layers):
    nodes = {name: {"operation": word, "params": params} for name, (word, params) in layers.items()}
    (here / "own.json").write_text(json.dumps({"features": {"layers": nodes}}))
    border = ("-rb", 1) if "u" not in layers else ()
    assert cli(*TRAIN, "-mn", "m", "-ad", "own.json", "-e", 1, "-i", "-c", *border)[0] == 0
    assert {path.name for path in (here / "outputs/intermediate-outputs").iterdir()} >= {"c"}
    status, _, err = cli("validate", "-d", "lids-dataset", "-vs", "val_split.txt", "-mp", "outputs/m")
    assert status == 0, err


def test_what_taught_never_scores(cli, here):
    assert cli(*TRAIN, "-mn", "m", "-e", 1)[0] == 0
    status, _, err = cli("validate", "-d", "lids-dataset", "-vs", "train_split.txt", "-mp", "outputs/m")
    assert status == 1
    assert "All 8 images" in err
    both = (here / "train_split.txt").read_text() + (here / "val_split.txt").read_text()
    (here / "both.txt").write_text(both)
    status, _, err = cli("validate", "-d", "lids-dataset", "-vs", "both.txt", "-mp", "outputs/m")
    assert status == 0
    assert "8 of 12 images taught the model" in err


def test_the_same_command_again_takes_what_was_learned(cli, here):
    assert cli(*TRAIN, "-mn", "m", "-e", 2)[0] == 0
    first = snapshot(here / "outputs/m")
    status, _, err = cli(*TRAIN, "-mn", "m", "-e", 2)
    assert status == 0
    assert "learned before" in err
    assert snapshot(here / "outputs/m") == first
    assert cli(*TRAIN, "-mn", "m", "-e", 3)[0] == 0
    assert snapshot(here / "outputs/m") != first


def test_the_same_command_after_a_drop_gives_the_whole_model(cli, here):
    """What `inspect --drop` learned anew is another model; it lies in the same hidden project."""
    assert cli(*TRAIN, "-mn", "m", "-ad", "arch.json", "-s")[0] == 0
    first = snapshot(here / "outputs/m")
    assert cli("inspect", "outputs/m", "--drop", "conv1:0", "--name", "model")[0] == 0
    assert cli(*TRAIN, "-mn", "m", "-ad", "arch.json", "-s")[0] == 0
    assert snapshot(here / "outputs/m") == first


def test_a_command_that_was_killed_before_it_began_to_learn_begins_again(cli, here):
    assert cli(*TRAIN, "-mn", "m", "-s")[0] == 0
    first = load(here / "outputs/m")[1]
    (run,) = (here / "outputs/.fieldmark").glob("flim-*/runs/*")
    (run / "job.json").unlink()
    record = json.loads((run / "run.json").read_text()) | {"status": "running", "process": "1 1.00"}
    (run / "run.json").write_text(json.dumps(record))
    shutil.rmtree(here / "outputs/m")
    status, _, err = cli(*TRAIN, "-mn", "m", "-s")
    assert status == 0, err
    again = load(here / "outputs/m")[1]
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_two_commands_never_learn_the_same_at_once(cli, here):
    from fieldmark.workbench.runs import this_process

    assert cli(*TRAIN, "-mn", "m", "-s")[0] == 0
    (run,) = (here / "outputs/.fieldmark").glob("flim-*/runs/*")
    record = json.loads((run / "run.json").read_text()) | {"status": "running", "process": this_process()}
    (run / "run.json").write_text(json.dumps(record))
    status, _, err = cli(*TRAIN, "-mn", "m", "-s")
    assert status == 1
    assert "is at work in process" in err


def test_grad_cam_pictures(cli, here):
    from fieldmark.images import open_image

    assert cli(*TRAIN, "-mn", "m", "-e", 2)[0] == 0
    status, out, err = cli("explain", "-d", "lids-dataset", "-ts", "train_split.txt", "-od", "seen", "-mp", "outputs/m",
                           "-i", 0, 5, "-t", "branches.0.3", "branches.1.0")  # fmt: skip
    assert (status, out) == (0, "Pictures in seen/CAMs\n"), err
    pictures = sorted(str(path.relative_to(here / "seen/CAMs")) for path in (here / "seen/CAMs").rglob("*.png"))
    names = ("000001_00000000.png", "000002_00000001.png")
    assert pictures == [f"{layer}/{name}" for layer in ("branches.0.3", "branches.1.0") for name in names]
    with open_image(here / "seen/CAMs" / pictures[0]) as source:
        assert source.shape == (1, 3, 1, 24, 24)
    assert "0, 8" not in err
    status, _, err = cli(
        "explain", "-d", "lids-dataset", "-ts", "train_split.txt", "-od", "seen", "-mp", "outputs/m", "-i", 8
    )
    assert status == 1
    assert "count them from 0" in err


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("1 24 24\n24 3 -1 1\n", "outside the image"),
        ("1 30 24\n3 3 -1 1\n", "is 24 x 24"),
        ("2 24 24\n3 3 -1 1\n", "promises 2 marked pixels"),
        ("1 24 24\n3 3 one 1\n", "no whole number"),
    ],
)
def test_markers_that_do_not_fit_their_image(cli, here, lines, told):
    (here / "markers-dir/000001_00000000.txt").write_text(lines)
    status, _, err = cli(*TRAIN, "-mn", "m")
    assert status == 1
    assert told in err
    assert "000001_00000000" in err
    assert not (here / "outputs/m").exists()


@pytest.mark.parametrize("label", [4097, 5_000_000_001])
def test_a_label_that_is_no_number_of_a_class_is_refused_at_once(cli, here, label):
    """Not after as many classes were made."""
    write_marks(here / "markers-dir/000002_00000000.txt", [(6, 8, 2), (7, 8, label)])
    status, _, err = cli(*TRAIN, "-mn", "m")
    assert status == 1
    assert f"000002_00000000.txt: it holds the label {label}, and classes are numbered from 1 to 4096" in err
    status, _, err = cli(*TRAIN, "-mn", "m", "--label-offset", 1 - label)
    assert f"holds the label {label}" not in err


def test_more_classes_than_there_can_be_are_refused_at_once(cli, here):
    status, _, err = cli(*TRAIN, "-mn", "m", "-nc", 5_000_000)
    assert status == 1
    assert "-nc 5000000: there are 4096 classes at most" in err


def test_no_epoch_trains_no_classifier_and_the_command_says_so(cli, here):
    status, _, err = cli(*TRAIN, "-mn", "bare", "-ad", "arch.json", "-e", 0)
    assert status == 0, err
    assert "-e 0 trains no classifier" in err
    status, _, err = cli("validate", "-d", "lids-dataset", "-vs", "val_split.txt", "-mp", "outputs/bare")
    assert status == 1
    assert "for one epoch (-e) or more" in err
    status, _, err = cli(*TRAIN, "-mn", "machine", "-ad", "arch.json", "-e", 0, "-s")
    assert status == 0
    assert "-e 0 trains" not in err


def test_each_model_has_its_own_history(cli, here):
    for name, epochs in (("one", 1), ("three", 3)):
        assert cli(*TRAIN, "-mn", name, "-ad", "arch.json", "-e", epochs)[0] == 0
    for name, epochs in (("one", 1), ("three", 3)):
        rows = (here / "outputs" / name / "history.csv").read_text().splitlines()
        assert sum(",epoch," in row for row in rows) == sum(",loss," in row for row in rows)
        assert f",{epochs}.0" in next(row for row in reversed(rows) if ",epoch," in row)
    assert not (here / "outputs/history.csv").exists()


def test_two_markers_on_one_pixel_the_last_counts(cli, here):
    file = here / "markers-dir/000001_00000000.txt"
    _, *rest = file.read_text().splitlines()
    file.write_text("\n".join(["41 24 24", *rest, "6 8 -1 2"]) + "\n")
    status, _, err = cli(*TRAIN, "-mn", "m", "-e", 1)
    assert status == 0
    assert "1 pixels carry two labels; the last in the file was taken" in err


@pytest.mark.parametrize("head", [("head.kind=forest",), ("head.kind=adaptive", "head.decoder=mean")])
def test_pixels_are_classified_where_a_head_is_asked_for(cli, here, capsys, head):
    """The page's example; without a head a model gives features, and `predict` says how to get classes."""
    image = here / "lids-dataset/000001_00000000.png"
    write_marks(here / "both/000001_00000000.txt", [(x, y, 1 + (y > 11)) for y in (8, 9, 14, 15) for x in range(6, 16)])
    train = ("train", "-md", "both", "-d", "lids-dataset", "-od", "outputs", "-mn")
    status, _, err = cli(*train, "features")
    assert status == 0, err
    with pytest.raises(SystemExit, match="1"):
        main(["predict", "outputs/features", str(image), "--out", "none"])
    assert "without a classifier of pixels (head.kind none" in capsys.readouterr().err
    assert not (here / "none").exists()
    status, _, err = cli(*train, "pixels", "--set", *head)
    assert status == 0, err
    with pytest.raises(SystemExit, match="0"):
        main(["predict", "outputs/pixels", str(image), "--out", "maps", "--format", "png"])
    with open_image(here / "maps/000001_00000000.png") as source:
        found = source.read(Box.whole(source.shape))[0, 0, 0]
    assert set(np.unique(found)) <= {1, 2}
    assert (found[8:10, 6:16] == 1).mean() > 0.7


def test_a_class_with_no_marker_is_told_where_pixels_are_classified(cli, here):
    (here / "markers-dir/000002_00000000.txt").unlink()
    status, _, err = cli(*TRAIN, "-mn", "m", "-i", "--set", "head.kind=logistic")
    assert status == 0
    assert "No stroke is of class 2: the model will never answer that." in err


def test_images_of_different_sizes(cli, here):
    (here / "lids-dataset/000001_00000001.png").write_bytes(encode_png(stripes(1, 5, side=31)))
    assert cli(*TRAIN, "-mn", "pooled", "-e", 1)[0] == 0
    assert cli(*TRAIN, "-mn", "machine", "-s")[0] == 0
    status, _, err = cli(*TRAIN, "-mn", "flat", "-s", "-ad", "arch.json")
    assert status == 1
    assert "31 x 31" in err
    assert "image_head.size" in err


def test_gray_images_among_colors_are_named(cli, here):
    """A file of one channel is not known to be gray, so none is taken for RGB of equal channels by itself."""
    gray = "000001_00000002.png"
    (here / "lids-dataset" / gray).write_bytes(encode_png(stripes(1, 12)[:, :, 0]))
    status, _, err = cli(*TRAIN, "-mn", "m", "-e", 1)
    assert status == 1
    assert f"1 channel: {gray}. Leave one kind out, or write all images alike (a gray image as RGB" in err
    (here / "train_split.txt").write_text((here / "train_split.txt").read_text().replace(f"{gray}\n", ""))
    assert cli(*TRAIN, "-mn", "m", "-e", 1)[0] == 0
    (here / "val_split.txt").write_text(f"{gray}\n")
    status, _, err = cli("validate", "-d", "lids-dataset", "-vs", "val_split.txt", "-mp", "outputs/m")
    assert status == 1
    assert gray in err


def test_a_zip_of_images_of_different_sizes_is_refused_before_anything_is_learned(cli, here):
    (here / "lids-dataset/000001_00000001.png").write_bytes(encode_png(stripes(1, 5, side=31)))
    layers = ("-ad", "arch.json", "-i", "-l", "pool1")
    status, out, err = cli(*TRAIN, "-mn", "m", *layers, "-f", "zip")
    assert (status, out) == (1, "")
    err = " ".join(err.split())
    assert "000001_00000000.png has 24 x 24 pixels and 000001_00000001.png 31 x 31" in err
    assert "npy or mimg" in err
    assert not (here / "outputs").exists()
    assert cli(*TRAIN, "-mn", "m", *layers, "-f", "npy")[0] == 0
    shapes = {
        np.load(path, allow_pickle=False).shape for path in (here / "outputs/intermediate-outputs/pool1").iterdir()
    }
    assert shapes == {(6, 12, 12), (6, 16, 16)}


def test_an_adaptive_pool_makes_maps_of_one_size_for_a_zip(cli, here):
    (here / "lids-dataset/000001_00000001.png").write_bytes(encode_png(stripes(1, 5, side=31)))
    arch = json.loads((here / "arch.json").read_text())
    arch["features"]["layers"]["even"] = {"operation": "adap_avg_pool2d", "params": {"output_size": 3}}
    (here / "arch.json").write_text(json.dumps(arch))
    layers = ("-ad", "arch.json", "-i", "-f", "zip", "-l")
    assert cli(*TRAIN, "-mn", "m", *layers, "even")[0] == 0
    assert read_opf(here / "outputs/intermediate-outputs/even/dataset.zip").feat.shape == (8, 6 * 9)
    status, _, err = cli(*TRAIN, "-mn", "m", *layers, "pool1")
    assert status == 1
    assert "images of one size" in " ".join(err.split())


def test_the_documents_machine_is_kept_for_the_documents_architectures(cli, here):
    looks = {}
    for name, more in (("own", ()), ("document", ("-ad", "arch.json"))):
        assert cli(*TRAIN, "-mn", name, "-s", *more)[0] == 0
        looks[name] = json.loads((here / "outputs" / name / "model.json").read_text())["config"]["image_head"]
    own, document = looks["own"], looks["document"]
    assert (own["look"]["vector"], own["look"]["levels"], own["ties"]) == ("rings", "all", "margin")
    assert (document["look"]["vector"], document["look"]["levels"], document["ties"]) == ("flatten", "last", "first")


def test_an_image_without_any_contrast(cli, here):
    flat = encode_png(np.full((24, 24, 3), 90, np.uint8))
    for file in (here / "lids-dataset").iterdir():
        file.write_bytes(flat)
    status, _, err = cli(*TRAIN, "-mn", "m", "-e", 1)
    assert status == 0, err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-mn", "m", "-tm", "vgg16_bn"), "torchvision"),
        (("-mn", "m", "-pt"), "torchvision"),
        (("-mn", "m", "-ld"), "-ld and -ldd FOLDER belong together"),
        (("-mn", "m", "-ldd", "markers-dir"), "-ld and -ldd FOLDER belong together"),
        (("-mn", "m", "-ld", "-ldd", "markers-dir"), "does not say its architecture"),
        (("-mn", "m", "-ld", "-ldd", "markers-dir", "-ad", "arch.json"), "no conv1-kernels.npy"),
        (("-mn", "m", "-s", "-b"), "one model has one"),
        (("-mn", "m", "-l", "conv1"), "Add -i"),
        (("-mn", "../m"), "cannot name a model"),
        (("-mn", "m", "-i", "-l", "branch1/layr2"), "Did you mean 'branch1/layer2'?"),
        (("-mn", "m", "-ad", "nowhere.json"), "-ad wants a file"),
    ],
)
def test_what_cannot_be_trained(cli, here, arguments, told):
    status, _, err = cli(*TRAIN, *arguments)
    assert status == 1
    assert told in err


def test_flags_reach_the_recipe(cli, here):
    numbers = ("-e", 2, "-bs", 3, "-lr", 0.02, "-wd", 0.03, "-st", 4, "-rb", 1, "-nc", 5, "-smi", 7)
    (here / "own.json").write_text(json.dumps({"features": ARCH["features"]}))
    status, _, err = cli(*TRAIN, "-mn", "m", *numbers, "-ad", "own.json", "--set", "seed=9", "image_head.grid=2")
    assert status == 0, err
    (file,) = (here / "outputs").rglob("recipe.yaml")
    recipe = yaml.safe_load(file.read_text())
    head, descend = recipe["image_head"], recipe["image_head"]["descend"]
    assert (recipe["seed"], head["grid"], head["remove_border"], head["svm_max_iter"]) == (9, 2, 1, 7)
    found = [descend[name] for name in ("epochs", "batch_size", "lr", "weight_decay", "step_epochs")]
    assert found == [2, 3, 0.02, 0.03, 4]
    assert len(load(here / "outputs/m")[0].classes) == 5


@pytest.mark.parametrize(
    ("flag", "value", "told"),
    [
        ("-lr", "0", "not in the range x>0"),
        ("-lr", "nan", "nan is no finite number"),
        ("-lr", "1e400", "1e400 is no finite number"),
        ("-wd", "-1", "not in the range x>=0"),
        ("-wd", "inf", "inf is no finite number"),
        ("-smi", "0", "0 iterations train no machine"),
    ],
)
def test_a_wrong_number_is_named_by_its_flag(cli, here, flag, value, told):
    status, _, err = cli(*TRAIN, "-mn", "m", flag, value)
    assert status == 2
    assert f"'{flag}'" in err
    assert told in err
    assert "image_head" not in err


def test_a_machine_needs_iterations_by_its_setting_too(cli, here):
    status, _, err = cli(*TRAIN, "-mn", "m", "-s", "--set", "image_head.svm_max_iter=0")
    assert status == 1
    assert "image_head.svm_max_iter: 0 iterations train no machine" in err
    assert not (here / "outputs/m").exists()


def test_a_border_that_leaves_nothing_is_named_by_its_flag(cli, here):
    status, _, err = cli(*TRAIN, "-mn", "m", "-s", "-rb", 99)
    assert status == 1
    assert "A border of 99 leaves nothing" in err
    assert "(-rb)" in err


def test_validate_draws_too(cli, here):
    assert cli(*TRAIN, "-mn", "m", "-e", 1)[0] == 0
    score = ("validate", "-d", "lids-dataset", "-vs", "val_split.txt", "-mp", "outputs/m")
    taken = ("-ad", "arch.json", "-dstd", 0.1, "-s", "-smp", "s.joblib", "-rb", 2, "-nc", 3)
    status, out, err = cli(*score, "--grad-cam", "-od", "seen", *taken)
    assert status == 0, err
    assert out.startswith("accuracy:")
    assert len(list((here / "seen/CAMs").rglob("*.png"))) == 4
    assert err.count("is taken and not used") == 6
    assert cli(*score, "--grad-cam")[0] == 2
    assert "torchvision" in cli(*score, "-tm", "vgg16_bn")[2]


@pytest.mark.parametrize(
    ("labels", "offset", "classes"),
    [((1, 2), (), (1, 2)), ((1, 2), (1,), (1, 2, 3)), ((0, 1), (), (1, 2)), ((0, 1), (0,), (1,))],
)
def test_labels_from_0_or_1_as_told(cli, here, labels, offset, classes):
    for number, label in zip((1, 2), labels, strict=True):
        marks = [(x, y, label) for y in range(8, 12) for x in range(6, 16)]
        write_marks(here / f"markers-dir/{number:06d}_00000000.txt", marks)
    told = ("--label-offset", *offset) if offset else ()
    status, _, err = cli(*TRAIN[:3], *TRAIN[5:], "-mn", "m", "--set", "head.kind=forest", *told)
    assert status == 0, err
    header = json.loads((here / "outputs/m/model.json").read_text())
    assert [spec["name"] for spec in header["classes"]] == [str(n) for n in classes]


def test_what_cannot_be_drawn_is_refused_before_anything_is_scored(cli, here):
    assert cli(*TRAIN, "-mn", "machine", "-s")[0] == 0
    score = ("validate", "-d", "lids-dataset", "-vs", "val_split.txt", "-mp", "outputs/machine", "--grad-cam")
    status, out, err = cli(*score, "-od", "seen")
    assert (status, out) == (1, "")
    assert "support vector" in err
    assert "answer " not in err
    assert cli(*TRAIN, "-mn", "dense", "-e", 1)[0] == 0
    status, out, err = cli(*score[:-2], "outputs/dense", "--grad-cam", "-od", "lids-dataset/seen")
    assert (status, out) == (1, "")
    assert "only read" in err
    assert "answer " not in err


def test_originals_are_only_read(cli, here):
    for folder in ("lids-dataset", "lids-dataset/out", "markers-dir"):
        status, _, err = cli(*TRAIN[:-1], folder, "-mn", "m")
        assert status == 1
        assert "only read" in err


def test_a_split_that_names_strangers(cli, here):
    (here / "train_split.txt").write_text("000001_00000000.png\nnone.png\n000009_1.png\n")
    status, _, err = cli(*TRAIN, "-mn", "m")
    assert status == 1
    assert "2 images" in err
    assert "none.png, 000009_1.png" in err


def test_a_strangers_folder_is_never_replaced(cli, here):
    (here / "outputs/m").mkdir(parents=True)
    (here / "outputs/m/notes.txt").write_text("mine")
    status, _, err = cli(*TRAIN, "-mn", "m")
    assert status == 1
    assert "no model folder" in err


def test_a_link_that_leads_nowhere_is_found_before_anything_is_learned(cli, here):
    (here / "outputs").mkdir(exist_ok=True)
    (here / "outputs/m").symlink_to("unplugged/m")
    status, _, err = cli(*TRAIN, "-mn", "m")
    assert status == 1
    assert "outputs/m is a link that leads nowhere (unplugged/m)" in err
    assert "Choose another -mn or -od" in err
    assert not (here / "outputs/.fieldmark").exists()


def test_splits_keep_the_shares_of_classes(cli, here):
    status, out, err = cli("split", "-d", "lids-dataset", "-n", "parts/s", "-ts", "0.5", "-vs", "2")
    assert status == 0, err
    assert out.splitlines() == [
        "parts/s-train.txt: 6 images",
        "parts/s-val.txt: 2 images",
        "parts/s-test.txt: 4 images",
    ]
    parts = {name: (here / f"parts/s-{name}.txt").read_text().split() for name in ("train", "val", "test")}
    assert [sum(n.startswith("000001") for n in parts[name]) for name in parts] == [3, 1, 2]
    together = sorted(name for names in parts.values() for name in names)
    assert together == sorted(path.name for path in (here / "lids-dataset").iterdir())
    status, _, err = cli("split", "-d", "lids-dataset", "-n", "s", "-ts", "10", "-vs", "3")
    assert status == 1
    assert "more than the data set's 12" in err
    status, _, err = cli("split", "-d", "lids-dataset", "-n", "lids-dataset/s", "-ts", "0.5")
    assert status == 1
    assert "only read" in err


def test_a_split_holds_what_its_readers_take(cli, here):
    """`train` and `validate` refuse names without a class, and an empty split."""
    (here / "lids-dataset" / "holiday.png").write_bytes((here / "lids-dataset" / "000001_00000001.png").read_bytes())
    status, out, err = cli("split", "-d", "lids-dataset", "-n", "s", "-ts", "0.5")
    assert status == 0, err
    assert out.splitlines() == ["s-train.txt: 6 images", "s-test.txt: 6 images"]
    assert "1 images were left out, whose names begin with no class: holiday.png." in err
    status, _, err = cli("split", "-d", "lids-dataset", "-n", "t", "-ts", "0")
    assert status == 1
    assert "-ts 0: no image would be left to train on" in err
    assert not (here / "t-train.txt").exists()


def test_a_part_without_images_is_not_written(cli, here):
    status, out, err = cli("split", "-d", "lids-dataset", "-n", "all", "-ts", "12", "-vs", "0")
    assert (status, out) == (0, "all-train.txt: 12 images\n"), err
    assert "No image is left for all-test.txt, and it was not written" in err
    assert sorted(path.name for path in here.glob("all-*")) == ["all-train.txt"]


def test_files_of_another_split_are_not_left_beside_this_one(cli, here):
    assert cli("split", "-d", "lids-dataset", "-n", "s", "-ts", "4", "-vs", "4")[0] == 0
    before = {path.name: path.read_bytes() for path in here.glob("s-*")}
    status, _, err = cli("split", "-d", "lids-dataset", "-n", "s", "-ts", "8")
    assert status == 1
    assert "s-val.txt is there already, of another split" in err
    assert "(-vs)" in err
    assert {path.name: path.read_bytes() for path in here.glob("s-*")} == before
    (here / "s-val.txt").unlink()
    assert cli("split", "-d", "lids-dataset", "-n", "s", "-ts", "8")[0] == 0
    assert "s-test.txt is there already" in cli("split", "-d", "lids-dataset", "-n", "s", "-ts", "12")[2]


def test_a_model_is_not_scored_on_an_empty_split(cli, here):
    assert cli(*TRAIN, "-mn", "m", "-e", 1)[0] == 0
    (here / "none.txt").write_text("\n")
    status, _, err = cli("validate", "-d", "lids-dataset", "-vs", "none.txt", "-mp", "outputs/m")
    assert status == 1
    assert "none.txt: it names no image" in err


@pytest.mark.parametrize("how", [("-r",), ("--how", "cover"), ()])
def test_chosen_images_are_copied(cli, here, how):
    status, out, err = cli("select", "-md", "marked", "-d", "lids-dataset", "-s", "train_split.txt", "-n", 2, *how)
    assert status == 0, err
    names = out.split()
    assert [sum(name.startswith(f"00000{klass}") for name in names) for klass in (1, 2)] == [2, 2]
    assert sorted(path.name for path in (here / "marked").iterdir()) == sorted(names)
    assert (here / "marked" / names[0]).read_bytes() == (here / "lids-dataset" / names[0]).read_bytes()
    assert (
        cli("select", "-md", "marked", "-d", "lids-dataset", "-s", "train_split.txt", "-n", 2, *how)[1].split() == names
    )


def test_images_are_chosen_by_what_a_model_sees(cli, here):
    """A cover of the maps' means and maxima, taken from the written layers and covered by a plain loop."""
    assert cli(*TRAIN, "-ad", "arch.json", "-mn", "m", "-i", "-l", "pool1")[0] == 0
    names = (here / "train_split.txt").read_text().split()
    maps = [np.load(here / f"outputs/intermediate-outputs/pool1/{name[:-4]}.npy", allow_pickle=False) for name in names]
    seen = np.array([[*(band.mean() for band in one), *(band.max() for band in one)] for one in maps])
    seen = (seen - seen.mean(axis=0)) / np.where(seen.std(axis=0) > 0, seen.std(axis=0), 1)
    expected = []
    for own in (range(4), range(4, 8)):
        middle = seen[list(own)].mean(axis=0)
        first = min(own, key=lambda place: np.linalg.norm(seen[place] - middle))
        expected += [first, max(own, key=lambda place: np.linalg.norm(seen[place] - seen[first]))]
    choose = ("select", "-d", "lids-dataset", "-s", "train_split.txt", "-n", 2, "--how", "cover")
    status, out, err = cli(*choose, "-md", "marked", "--model", "outputs/m")
    assert status == 0, err
    assert out.split() == [names[place] for place in expected]
    by_color = cli(*choose, "-md", "colors")[1].split()
    assert by_color != out.split()
    assert "Name a model folder" in cli(*choose, "-md", "none", "--model", "outputs/n")[2]


def test_an_architecture_from_a_list_of_layers(cli, here):
    layers = [{"operation": "conv2d", "params": {"kernel_size": 3, "padding": 1, "out_channels": 4}}]
    layers.append({"operation": "relu"})
    (here / "layers.json").write_text(json.dumps(layers))
    status, out, err = cli("arch", "-l", "layers.json", "-a", "made.json")
    assert (status, out) == (0, "Wrote made.json\n"), err
    assert [
        one["operation"] for one in json.loads((here / "made.json").read_text())["features"]["layers"].values()
    ] == [
        "conv2d",
        "relu",
    ]
    assert cli("arch", "-l", "layers.json", "-a", "made.json")[0] == 1
    layers[0]["operation"] = "conv2"
    (here / "layers.json").write_text(json.dumps(layers))
    status, _, err = cli("arch", "-l", "layers.json", "-a", "other.json")
    assert status == 1
    assert "conv2d" in err


def test_help_names_every_flag_of_the_document(cli):
    flags = {
        "train": "-md -d -ts -ad -od -mn -e -bs -lr -wd -g -dstd -s -smi -smn -b -c -ld -ldd -rb -st -tm -nc -pt"
        " -i -f -l",
        "select": "-md -d -s -n -r",
        "split": "-d -n -ts -vs -tts",
        "explain": "-d -ts -ad -rb -od -mp -g -tm -i -t -nc",
        "arch": "-l -a",
        "validate": "-d -vs -ad -mp -g -dstd -s -smp -rb -tm -nc",
    }
    for command, short in flags.items():
        status, out, _ = cli(command, "-h")
        assert status == 0
        shown = {word.rstrip(",") for word in out.split()}
        assert set(short.split()) <= shown, command


DOCUMENTED = {
    "train": "train -d lids-dataset -ts train_split.txt -ad arch.json -md markers-dir -od outputs-dir "
    "-mn trained-model.pt -g 0 -e 120 -bs 64 -lr 0.001 -wd 0.001",
    "validate": "validate -d lids-dataset -vs val_split.txt -ad arch.json -mp outputs-dir/trained-model.pt -g 0",
    "layers": "train -md markers/ -d lids-dataset/ -ts train.txt -ad arch.json -g 0 -od outputs -mn model.pt "
    "-i -f zip -l layer_name1 layer_name2",
}
"""The document's examples, word for word; `fieldmark flim` takes the place of the tool's name."""


def test_the_documents_three_commands(cli, here):
    status, out, err = cli(*shlex.split(DOCUMENTED["train"]))
    assert status == 0, err
    assert out == "Model outputs-dir/trained-model.pt\n"
    assert "GPU 0: this machine has no such GPU; running on the CPU." in err
    status, out, err = cli(*shlex.split(DOCUMENTED["validate"]))
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("accuracy: ")
    assert lines[1].startswith("kappa: ")
    assert float(lines[0].split()[1]) >= 0.75
    assert {line.partition(":")[0] for line in lines} >= {"1", "2"}

    (here / "train.txt").write_bytes((here / "train_split.txt").read_bytes())
    (here / "markers-dir").rename(here / "markers")
    text = (here / "arch.json").read_text()
    (here / "arch.json").write_text(text.replace('"conv1"', '"layer_name1"').replace('"pool1"', '"layer_name2"'))
    status, out, err = cli(*shlex.split(DOCUMENTED["layers"]))
    assert status == 0, err
    written = sorted(path.relative_to(here / "outputs/intermediate-outputs") for path in here.rglob("dataset.zip"))
    assert [path.as_posix() for path in written] == ["layer_name1/dataset.zip", "layer_name2/dataset.zip"]


@pytest.mark.parametrize("form", ["npy", "mimg", "zip"])
def test_layers_in_every_format_hold_the_same_numbers(cli, here, form):
    """Each read back by our own reader, against the numbers of `npy`."""
    from fieldmark.core.geometry import Box
    from fieldmark.features.opf import read_opf
    from fieldmark.images import open_image

    train = (*TRAIN, "-mn", "m", "-ad", "arch.json", "-i", "-l", "conv1", "pool1")
    assert cli(*train, "-f", "npy")[0] == 0
    folder = here / "outputs/intermediate-outputs"
    truth = {
        name: [np.load(file, allow_pickle=False) for file in sorted((folder / name).glob("*.npy"))]
        for name in ("conv1", "pool1")
    }
    assert [truth["conv1"][0].shape, truth["pool1"][0].shape] == [(6, 24, 24), (6, 12, 12)]
    assert cli(*train, "-f", form)[0] == 0
    for name, maps in truth.items():
        if form == "zip":
            found = read_opf(folder / name / "dataset.zip")
            assert np.array_equal(found.feat, np.stack([one.reshape(-1) for one in maps]))
            assert found.true_label.tolist() == [1] * 4 + [2] * 4
        elif form == "mimg":
            for file, one in zip(sorted((folder / name).glob("*.mimg")), maps, strict=True):
                with open_image(file) as source:
                    assert np.array_equal(source.read(Box.whole(source.shape))[0, :, 0], one)


def lab(rgb: np.ndarray) -> np.ndarray:
    """(3, y, x) of (y, x, 3) in 0..1, pixel by pixel, by the formulas of FLIM's LABNorm2."""

    def root(t: float) -> float:
        return t ** (1 / 3) if t >= (6 / 29) ** 3 else 841 / 108 * t + 4 / 29

    found = np.zeros((3, *rgb.shape[:2]))
    for y, x in np.ndindex(*rgb.shape[:2]):
        r, g, b = rgb[y, x]
        fx = root((0.4123955890 * r + 0.3575834308 * g + 0.1804926474 * b) / 0.950456)
        fy = root(0.2125862308 * r + 0.7151703037 * g + 0.0722004986 * b)
        fz = root((0.0192972155 * r + 0.1191838646 * g + 0.9504971251 * b) / 1.088754)
        found[:, y, x] = (
            (116 * fy - 16) / 99.998337,
            (500 * (fx - fy) + 86.182236) / (86.182236 + 98.258614),
            (200 * (fy - fz) + 107.867744) / (107.867744 + 94.481682),
        )
    return found


@pytest.mark.parametrize("standardize", [True, False])
def test_layers_from_the_pixels_on_by_loops(cli, here, standardize):
    """L*a*b*, the data set's spread, the norm, the convolution, ReLU and the pool, with the model's own numbers."""
    names = ("norm1", "conv1", "activation1", "pool1")
    settings = ("--set", f"net.standardize={str(standardize).lower()}")
    assert cli(*TRAIN, "-mn", "m", "-ad", "arch.json", "-i", "-l", *names, *settings)[0] == 0
    header, weights = load(here / "outputs/m")
    assert [step["step"] for step in header.preparation] == ["scale", "lab", "standardize"][: 2 + standardize]
    scale, _, given = [*header.preparation, {"mean": [0.0] * 3, "std": [1.0] * 3}][:3]
    assert scale["by"] == max(stripes(1, 10).max(), stripes(2, 20).max())  # of the images that taught
    stem = "000002_00000003"
    columns = (slice(None), None, None)
    seen = lab(stripes(2, 23) / scale["by"])
    seen = (seen - np.array(given["mean"])[columns]) / np.array(given["std"])[columns]
    wanted = {"norm1": (seen - weights["graph.norm1.mean"][columns]) / weights["graph.norm1.std"][columns]}
    padded, kernels = np.pad(wanted["norm1"], ((0, 0), (1, 1), (1, 1))), weights["graph.conv1.weight"]
    windows = [padded[:, y : y + 3, x : x + 3] for y, x in np.ndindex(24, 24)]
    wanted["conv1"] = np.array([[(kernel * one).sum() for one in windows] for kernel in kernels]).reshape(-1, 24, 24)
    wanted["activation1"] = np.maximum(wanted["conv1"], 0)
    padded = np.pad(wanted["activation1"], ((0, 0), (1, 1), (1, 1)))
    wanted["pool1"] = np.array(
        [[padded[:, 2 * y : 2 * y + 3, 2 * x : 2 * x + 3].max(axis=(1, 2)) for x in range(12)] for y in range(12)]
    ).transpose(2, 0, 1)
    for name, values in wanted.items():
        found = np.load(here / f"outputs/intermediate-outputs/{name}/{stem}.npy", allow_pickle=False)
        assert found.shape == values.shape, name
        assert np.allclose(found, values, atol=1e-4 * np.abs(values).max()), name


def test_colors_are_taken_from_images_with_opacity(cli, here):
    """Their fourth channel is none; the first three alone are the colors that they would be without it."""
    (here / "rgba").mkdir()
    for number, path in enumerate(sorted((here / "lids-dataset").iterdir())):
        with open_image(path) as source:
            colors = np.moveaxis(source.read(Box.whole(source.shape))[0, :, 0], 0, -1)
        opacity = np.full((*colors.shape[:2], 1), 255 - number, np.uint8)
        (here / "rgba" / path.name).write_bytes(encode_png(np.concatenate([colors, opacity], axis=-1)))
    assert cli(*TRAIN, "-mn", "rgb", "-ad", "arch.json", "-s", "--set", "net.color=lab")[0] == 0
    told = ("--set", "net.color=lab", "data.inputs=[0,1,2]")
    status, _, err = cli(*TRAIN, "-d", "rgba", "-mn", "rgba", "-ad", "arch.json", "-s", *told)
    assert status == 0, err
    first, second = load(here / "outputs/rgb"), load(here / "outputs/rgba")
    assert all(np.array_equal(first[1][name], second[1][name]) for name in first[1])
    assert second[0].preparation[1:] == first[0].preparation


def test_a_layer_is_named_as_in_the_architecture(cli, here):
    arch = json.loads((here / "arch.json").read_text())
    arch["features"]["layers"]["block"] = {"layers": {"conv1": {"operation": "relu"}, "last": {"operation": "relu"}}}
    arch["features"]["layers"]["relu"] = {"operation": "relu"}  # as one of the classifier
    (here / "arch.json").write_text(json.dumps(arch))
    train = (*TRAIN, "-ad", "arch.json", "-i", "-c", "-e", 1)
    assert cli(*train, "-mn", "m", "-l", "conv1", "block/conv1", "last", "relu")[0] == 0
    folder = here / "outputs/intermediate-outputs"
    assert sorted(path.name for path in folder.iterdir()) == ["block.conv1", "conv1", "last", "relu"]
    assert np.load(folder / "conv1/000001_00000000.npy", allow_pickle=False).shape == (6, 24, 24)
    assert np.load(folder / "block.conv1/000001_00000000.npy", allow_pickle=False).shape == (6, 12, 12)
    status, out, err = cli(*train, "-mn", "other", "-l", "cnov1")
    assert (status, out) == (1, "")
    assert "No layer is called 'cnov1'. Did you mean 'conv1'" in err
    assert not (here / "outputs/other").exists()
    assert "classify" not in err


BRANCHED = {
    "features": {
        "layers": {
            "conv1": {
                "operation": "conv2d",
                "params": {"kernel_size": 3, "padding": 1, "number_of_kernels_per_marker": 3},
            },
            "both": {
                "type": "parallel",
                "layers": {
                    "near": {
                        "operation": "conv2d",
                        "params": {"kernel_size": 3, "padding": 1, "number_of_kernels_per_marker": 2},
                    },
                    "far": {
                        "layers": {
                            "wide": {
                                "operation": "conv2d",
                                "params": {
                                    "kernel_size": 3,
                                    "padding": 2,
                                    "dilation": 2,
                                    "number_of_kernels_per_marker": 2,
                                },
                            },
                            "relu": {"operation": "relu"},
                        }
                    },
                },
            },
            "end": {"operation": "max_pool2d", "params": {"kernel_size": 2}},
        }
    },
    "classifier": {"layers": {"linear": {"operation": "linear", "params": {"in_features": -1, "out_features": 2}}}},
}


def test_a_layer_may_be_a_module(cli, here):
    """What a module of branches gives is what they give, one behind the other; it is drawn as every layer is."""
    (here / "arch.json").write_text(json.dumps(BRANCHED))
    told = ("-l", "both", "far", "near", "wide", "both/far/relu")
    status, _, err = cli(*TRAIN, "-ad", "arch.json", "-mn", "m", "-i", "-c", "-e", 1, *told)
    assert status == 0, err
    folder = here / "outputs/intermediate-outputs"
    both, near, far, wide, relu = (
        np.load(folder / name / "000002_00000001.npy", allow_pickle=False)
        for name in ("both", "near", "far", "wide", "both.far.relu")
    )
    assert np.array_equal(both, np.concatenate([near, far]))
    assert np.array_equal(far, relu)
    assert np.array_equal(far, np.maximum(wide, 0))
    status, _, err = cli("explain", "-d", "lids-dataset", "-ts", "val_split.txt", "-mp", "outputs/m", "-od", "seen",
                         "-t", "both", "-i", 0)  # fmt: skip
    assert status == 0, err
    assert (here / "seen/CAMs/both/000001_00000004.png").is_file()


def test_filters_of_branches_are_dropped_apart(cli, here):
    """Branches learn nothing from each other: what was dropped in one stays away when the other loses some."""
    (here / "arch.json").write_text(json.dumps(BRANCHED))
    assert cli(*TRAIN, "-ad", "arch.json", "-mn", "m", "-s")[0] == 0
    assert cli("inspect", "outputs/m", "--drop", "both/far/wide:1", "--name", "less")[0] == 0
    assert cli("inspect", "outputs/less", "--drop", "both/near:0", "--name", "least")[0] == 0
    assert cli("inspect", "outputs/m", "--drop", "both/near:0", "--drop", "both/far/wide:1", "--name", "once")[0] == 0
    whole, least, once = (load(here / f"outputs/{name}")[1] for name in ("m", "least", "once"))
    for name, gone in (("graph.both.near.weight", 0), ("graph.both.far.wide.weight", 1)):
        assert np.array_equal(least[name], np.delete(whole[name], gone, axis=0))
    assert all(np.array_equal(array, once[name]) for name, array in least.items())
    assert cli("inspect", "outputs/less", "--drop", "conv1:0", "--name", "anew")[0] == 0  # all after it is learned anew
    assert len(load(here / "outputs/anew")[1]["graph.both.far.wide.weight"]) == len(whole["graph.both.far.wide.weight"])
    assert cli("inspect", "outputs/m", "--drop", "conv1:0", "--drop", "both/near:0", "--name", "x")[0] == 1


def test_maps_of_our_own_network_cover_images_that_its_stride_does_not_divide(cli, here):
    """25 pixels at a stride of 2 are 13 samples, and none for what was only added."""
    (here / "lids-dataset/000001_00000001.png").write_bytes(encode_png(stripes(1, 5, side=25)))
    (here / "lids-dataset/000001_00000002.png").write_bytes(encode_png(stripes(1, 5, side=33)))
    layers = ("branch1/layer1", "branch1/layer2", "branch1/layer3")
    status, _, err = cli(*TRAIN, "-mn", "m", "-i", "-l", *layers)
    assert status == 0, err
    header, _ = load(here / "outputs/m")
    strides = np.cumprod([2 if one["pool"] != "none" else 1 for one in header.config["branches"][0]["layers"]])
    for name, side in (("000001_00000001", 25), ("000001_00000002", 33), ("000002_00000001", 24)):
        for layer, stride in zip(layers, strides.tolist(), strict=False):
            found = np.load(
                here / f"outputs/intermediate-outputs/{layer.replace('/', '.')}/{name}.npy", allow_pickle=False
            )
            assert found.shape[1:] == (-(-side // stride),) * 2, (name, layer)


def test_two_images_never_share_a_file(cli, here):
    (here / "lids-dataset/000001_00000000.tif").write_bytes((here / "lids-dataset/000001_00000001.png").read_bytes())
    with (here / "train_split.txt").open("a") as split:
        split.write("000001_00000000.tif\n")
    (here / "markers-dir/000001_00000000.txt").rename(here / "markers-dir/000001_00000001.txt")
    status, _, err = cli(*TRAIN, "-mn", "m", "-ad", "arch.json", "-i", "-l", "conv1")
    assert status == 1
    assert "000001_00000000.png and 000001_00000000.tif would be written into one file" in " ".join(err.split())


def test_layers_of_volumes_by_loops(cli, here):
    """(C, z, y, x) in every format: what a convolution over volumes gives, at each voxel."""
    import tifffile

    rng = np.random.default_rng(3)
    volumes = rng.integers(0, 4000, (2, 7, 10, 12)).astype(np.uint16)
    shutil.rmtree(here / "lids-dataset")
    for path in (here / "markers-dir").iterdir():
        path.unlink()
    (here / "lids-dataset").mkdir()
    for number, volume in enumerate(volumes, start=1):
        tifffile.imwrite(here / f"lids-dataset/{number}_{number}.tif", volume, metadata={"axes": "ZYX"})
        lines = ["3 12 10 7", *(f"{x} {y} {z} -1 {number}" for x, y, z in ((4, 4, 3), (5, 4, 3), (11, 9, 6)))]
        (here / f"markers-dir/{number}_{number}.txt").write_text("\n".join(lines) + "\n")
    layers = {
        "conv1": {"operation": "conv3d", "params": {"kernel_size": 3, "padding": 1, "number_of_kernels_per_marker": 1}},
        "pool1": {"operation": "avg_pool3d", "params": {"kernel_size": 3, "stride": 2, "padding": 1}},
    }
    (here / "arch.json").write_text(json.dumps({"features": {"layers": layers}}))
    train = ("train", "-d", "lids-dataset", *TRAIN[5:], "-mn", "m", "-ad", "arch.json", "-i")
    for form in ("npy", "mimg", "zip"):
        status, _, err = cli(*train, "-l", "conv1", "pool1", "-f", form)
        assert status == 0, err
    header, weights = load(here / "outputs/m")
    kernels, (scale, given) = weights["graph.conv1.weight"], header.preparation
    seen = (volumes / scale["by"] - given["mean"][0]) / given["std"][0]
    folder = here / "outputs/intermediate-outputs"
    rows = read_opf(folder / "conv1/dataset.zip").feat
    for number, volume in enumerate(seen, start=1):
        padded = np.pad(volume, 1)
        windows = [padded[z : z + 3, y : y + 3, x : x + 3] for z, y, x in np.ndindex(*volume.shape)]
        wanted = np.array([[(kernel[0] * one).sum() for one in windows] for kernel in kernels])
        wanted = wanted.reshape(-1, *volume.shape)
        found = np.load(folder / f"conv1/{number}_{number}.npy", allow_pickle=False)
        assert np.allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())
        assert np.load(folder / f"pool1/{number}_{number}.npy", allow_pickle=False).shape == (len(kernels), 4, 5, 6)
        assert np.array_equal(rows[number - 1], found.ravel())
        data = (folder / f"conv1/{number}_{number}.mimg").read_bytes()
        head = f"MIG\n12 10 7 {len(kernels)}\n1.000000 1.000000 1.000000\n".encode()
        assert data == head + np.ascontiguousarray(found.transpose(1, 2, 3, 0), "<f4").tobytes()


def test_fewer_patches_than_kernels_is_an_error(cli, here):
    for number, name in enumerate(("000001_00000000.txt", "000002_00000000.txt"), start=1):
        write_marks(here / "markers-dir" / name, [(5, 5, number), (15, 15, number)])
    status, _, err = cli(*TRAIN, "-mn", "m", "-ad", "arch.json")
    assert status == 1
    assert "conv1" in err
    assert "6" in err


def test_a_wrong_key_names_its_place(cli, here):
    (here / "arch.json").write_text(json.dumps(ARCH).replace('"kernel_size": 3, "stride": 1', '"kernal_size": 3'))
    status, _, err = cli(*TRAIN, "-mn", "m", "-ad", "arch.json")
    assert status == 1
    assert "arch.json" in err
    assert "features.layers.conv1.params.kernal_size" in err
    assert "kernel_size" in err


@pytest.mark.parametrize("flags", [("-b",), ("-s",), ("-c",)])
def test_each_classifier_learns(cli, here, flags):
    status, _, err = cli(*TRAIN, "-mn", "m", "-ad", "arch.json", "-e", 15, "-bs", 8, *flags)
    assert status == 0, err
    status, out, err = cli("validate", "-d", "lids-dataset", "-vs", "val_split.txt", "-mp", "outputs/m", "--json")
    assert status == 0, err
    assert json.loads(out)["accuracy"] >= 0.75
    status, _, err = cli("explain", "-d", "lids-dataset", "-ts", "val_split.txt", "-od", "seen", "-mp", "outputs/m")
    if "-s" in flags:
        assert "dense" in err
    else:
        assert status == 0, err
        assert len(list((here / "seen/CAMs/pool1").glob("*.png"))) == 4


def test_markers_beside_their_images(cli, here):
    """Copies of the data set's images count once, and images of the markers' own teach filters, not classes."""
    copied = "000001_00000000.png"
    (here / "markers-dir" / copied).write_bytes((here / "lids-dataset" / copied).read_bytes())
    (here / "markers-dir/000002_00000000.txt").rename(here / "markers-dir/mine.txt")
    (here / "markers-dir/mine.png").write_bytes(encode_png(stripes(2, 99)))
    status, _, err = cli(*TRAIN, "-mn", "m", "-ad", "arch.json", "-c", "-e", 1)
    assert status == 0, err
    header = json.loads((here / "outputs/m/model.json").read_text())
    assert sorted(Path(one["image"]).name for one in header["taught"]) == sorted(
        [*(here / "train_split.txt").read_text().split(), "mine.png"]
    )


@pytest.mark.parametrize("labels", [{1: 1, 2: 2, 3: 7}, {1: 1, 2: 2, 3: 0}])
def test_markers_of_the_background_ask_for_no_output_of_the_classifier(cli, here, labels):
    """Images are of two classes, and so is the architecture's classifier; the background is marked as a third."""
    for klass in (1, 2):
        marks = [(x, y, labels[klass]) for y in range(8, 12) for x in range(6, 16)]
        marks += [(x, 20, labels[3]) for x in range(6, 16)]
        write_marks(here / f"markers-dir/{klass:06d}_{0:08d}.txt", marks)
    status, _, err = cli(*TRAIN, "-mn", "m", "-ad", "arch.json", "-e", "40")
    assert status == 0, err
    status, out, err = cli("validate", "-d", "lids-dataset", "-vs", "val_split.txt", "-mp", "outputs/m", "--json")
    assert status == 0, err
    assert json.loads(out)["accuracy"] > 0.7
    status, _, err = cli("explain", "-d", "lids-dataset", "-ts", "val_split.txt", "-mp", "outputs/m", "-od", "seen")
    assert status == 0, err


def test_images_of_one_name_in_folders_below_the_markers(cli, here):
    """`one/x.txt` is of `one/x.png`, not of `two/x.png`; images of the data set have their own names beside them."""
    for klass, place in ((1, "one"), (2, "two")):
        source = here / f"lids-dataset/{klass:06d}_{5:08d}.png"
        (here / "drawn" / place).mkdir(parents=True)
        shutil.copy(source, here / "drawn" / place / "x.png")
        write_marks(here / "drawn" / place / "x.txt", [(x, 8 * klass, klass) for x in range(6, 16)])
    status, _, err = cli("train", "-md", "drawn", "-d", "lids-dataset", "-ts", "train_split.txt", "-ad", "arch.json",
                         "-od", "outputs", "-mn", "m", "-s")  # fmt: skip
    assert status == 0, err
    header, weights = load(here / "outputs/m")
    places, classes = weights["graph.conv1.place"], weights["graph.conv1.klass"]
    rows = set(zip(places[:, 3].tolist(), classes.tolist(), strict=True))
    assert rows == {(8, 0), (16, 1)}
    drawn = {file_hash(here / f"drawn/{place}/x.png") for place in ("one", "two")}
    assert drawn < {one.content_hash for one in header.taught}
    assert len(header.taught) == 10


def test_filters_stay_as_markers_taught_them_but_for_backpropagation(cli, here):
    weights = {}
    for name, flags in (("markers", ("-i", "-l", "conv1")), ("plain", ()), ("alone", ("-c",)), ("all", ("-b",))):
        status, _, err = cli(*TRAIN, "-mn", name, "-ad", "arch.json", "-e", 2, *flags)
        assert status == 0, err
        weights[name] = load(here / "outputs" / name)[1]["graph.conv1.weight"]
    assert np.array_equal(weights["plain"], weights["alone"])
    assert np.abs(weights["all"] - weights["alone"]).max() > 1e-3
    lengths = np.sqrt((weights["alone"] ** 2).sum(axis=(1, 2, 3)))
    assert np.allclose(lengths, 1, atol=1e-5)


def test_constant_images_teach_one_kernel(cli, here):
    for file in (here / "lids-dataset").iterdir():
        file.write_bytes(encode_png(np.full((24, 24, 3), 90, np.uint8)))
    status, _, err = cli(*TRAIN, "-mn", "m", "-ad", "arch.json", "-e", 1)
    assert status == 1
    assert "conv1: 80 patches of 27 values gave 1 kernels, and out_channels wants 6" in err


def test_the_dialect_of_libift(cli, here):
    layer = {
        "conv": {"kernel_size": [3, 3, 0], "nkernels_per_marker": 3, "noutput_channels": 4},
        "relu": True,
        "pooling": {"size": [3, 3, 0], "stride": 2, "type": "max_pool"},
    }
    (here / "arch.json").write_text(json.dumps({"nlayers": 1, "stdev_factor": 0.01, "layer1": layer}))
    assert cli(*TRAIN, "-mn", "m", "-ad", "arch.json", "-s")[0] == 0
    status, out, _ = cli("validate", "-d", "lids-dataset", "-vs", "val_split.txt", "-mp", "outputs/m", "--json")
    assert status == 0
    assert json.loads(out)["accuracy"] >= 0.75


@pytest.mark.parametrize("ending", ["", "-seeds"])
def test_marker_pictures_teach_as_marker_files_do(cli, here, ending):
    assert cli(*TRAIN, "-mn", "text", "-ad", "arch.json", "-i", "-l", "conv1", "-f", "npy")[0] == 0
    folder = here / "outputs/intermediate-outputs/conv1"
    truth = [np.load(file, allow_pickle=False) for file in sorted(folder.iterdir())]
    for file in sorted((here / "markers-dir").iterdir()):
        picture = np.zeros((24, 24), np.uint8)
        for line in file.read_text().splitlines()[1:]:
            x, y, _, label = map(int, line.split())
            picture[y, x] = label
        (here / "markers-dir" / f"{file.stem}{ending}.png").write_bytes(encode_png(picture))
        file.unlink()
    status, _, err = cli(*TRAIN, "-mn", "drawn", "-ad", "arch.json", "-i", "-l", "conv1", "-f", "npy")
    assert status == 0, err
    found = [np.load(file, allow_pickle=False) for file in sorted(folder.iterdir())]
    assert all(np.array_equal(a, b) for a, b in zip(found, truth, strict=True))


def test_marker_files_without_a_marked_pixel(cli, here):
    """One beside others teaches nothing; alone it is told, in the words of these commands."""
    write_marks(here / "markers-dir/000001_00000001.txt", [])
    status, _, err = cli(*TRAIN, "-mn", "m", "-e", 1)
    assert status == 0, err
    write_marks(here / "empty/000001_00000001.txt", [])
    status, _, err = cli("train", "-d", "lids-dataset", "-md", "empty", "-od", "outputs", "-mn", "n")
    assert status == 1
    assert "empty: its files mark no pixel" in err
    assert "labels import" not in err
    assert ": ." not in err


def test_markers_of_no_image(cli, here):
    for file in list((here / "markers-dir").iterdir()):
        file.rename(file.with_name(f"other{file.name}"))
    status, _, err = cli(*TRAIN, "-mn", "m")
    assert status == 1
    assert "no marker file has the name of an image" in err


def test_a_model_is_exported_without_a_project(cli, here, capsys):
    assert cli(*TRAIN, "-mn", "m", "-ad", "arch.json", "-e", 1)[0] == 0
    with pytest.raises(SystemExit) as ended:
        main(["models", "export", "outputs/m", "--format", "libift", "--out", "kernels"])
    assert ended.value.code in (None, 0), capsys.readouterr().err
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["models", "show", "outputs/m"])
    assert json.loads(capsys.readouterr().out)["family"] == "flim-net"
    (folder,) = {file.parent for file in (here / "kernels").rglob("arch.json")}
    given = ("train", "-d", "lids-dataset", "-ts", "train_split.txt", "-od", "outputs", "-ld", "-ldd", folder)
    status, _, err = cli(*given, "-mn", "again", "-e", 1)
    assert status == 0, err


def test_filters_of_libift_begin_a_classifier(cli, here):
    """A folder written by hand from what strokes taught gives the same layers, without a stroke."""
    layers = ("-ad", "arch.json", "-c", "-e", 15, "-bs", 8, "-i", "-l", "conv1")
    assert cli(*TRAIN, "-mn", "taught", *layers)[0] == 0
    folder = here / "outputs/intermediate-outputs/conv1"
    truth = [np.load(file, allow_pickle=False) for file in sorted(folder.iterdir())]
    header, weights = load(here / "outputs/taught")
    scale, _, spread = header.preparation
    assert spread["step"] == "standardize"
    rows = weights["graph.conv1.weight"].transpose(2, 3, 1, 0).reshape(9, 3, 6)
    (here / "libift").mkdir()
    np.save(here / "libift/conv1-kernels.npy", rows[[4, 0, 1, 2, 3, 5, 6, 7, 8]].reshape(27, 6))
    # given filters see pixels that are scaled alone: their statistics hold the spread of the images
    mean = spread["mean"] + spread["std"] * weights["graph.norm1.mean"]
    for name, values in (("mean", mean), ("stdev", spread["std"] * weights["graph.norm1.std"])):
        (here / f"libift/conv1-{name}.txt").write_text(f"3\n{' '.join(map(str, values))}\n")
    given = ("train", "-d", "lids-dataset", "-ts", "train_split.txt", "-od", "outputs", "-ld", "-ldd", "libift",
             "--set", f"begin.scale={scale['by']}")  # fmt: skip
    status, _, err = cli(*given, "-mn", "given", *layers)
    assert status == 0, err
    assert f"-ld: pixels are divided by {scale['by']:g}" in err
    found = [np.load(file, allow_pickle=False) for file in sorted(folder.iterdir())]
    assert all(np.abs(a - b).max() < 1e-4 for a, b in zip(found, truth, strict=True))
    status, out, _ = cli("validate", "-d", "lids-dataset", "-vs", "val_split.txt", "-mp", "outputs/given", "--json")
    assert (status, json.loads(out)["accuracy"] >= 0.75) == (0, True)
    np.save(here / "libift/conv1-kernels.npy", rows.reshape(27, 6)[::-1])
    status, _, err = cli(*given, "-mn", "other", *layers, "-md", "markers-dir")
    assert status == 0
    assert "-md is not used" in err
    assert "learned before" not in err  # the files' content counts, not their names
    status, _, err = cli(*given[:1], *given[5:], "-mn", "m", "-ad", "arch.json")
    assert (status, "-d FOLDER -ts" in err) == (1, True)
