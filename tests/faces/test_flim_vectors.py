"""`flim train` and `validate` on OPF data sets, features instead of images. Truth is scikit-learn on the features."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from fieldmark.checkpoint import load
from fieldmark.features.opf import read_opf, write_opf
from fieldmark.images import encode_png

pytestmark = pytest.mark.usefixtures("worker_here", "own_folder")

FEATURES = 7


@pytest.fixture
def cli(cli):
    """Run `fieldmark flim`."""
    return partial(cli, "flim")


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """(60, 7) features of very different scales, of three classes that overlap, and one constant; labels from 1."""
    rng = np.random.default_rng(3)
    labels = np.arange(60) % 3 + 1
    feat = rng.normal(0, 1.0, (60, FEATURES)) + rng.normal(0, 0.8, (3, FEATURES))[labels - 1]
    feat = feat * 10.0 ** np.arange(-3, 4) + 5.0
    feat[:, 2] = 4.0
    return feat.astype(np.float32), labels


TRAIN, VAL = np.arange(0, 36), np.arange(36, 60)


def write_split(file: str, names: list[str]) -> None:
    Path(file).write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def zipped() -> tuple[np.ndarray, np.ndarray]:
    """`x.zip` whose samples are named by files in folders, `train.txt` and `val.txt`."""
    feat, labels = drawn()
    names = [f"{klass:06d}_{place:08d}.png" for place, klass in enumerate(labels)]
    write_opf(Path("x.zip"), feat, labels, names=[f"/data/images/{name}" for name in names])
    write_split("train.txt", [names[place] for place in TRAIN])
    write_split("val.txt", [names[place] for place in VAL])
    return feat, labels


def expected(feat: np.ndarray, labels: np.ndarray, train: np.ndarray, val: np.ndarray) -> np.ndarray:
    """What the document's machine answers: standardized features, C = 100, one against one."""
    scaler = StandardScaler().fit(feat[train].astype(np.float64))
    machine = SVC(kernel="linear", C=100.0).fit(scaler.transform(feat[train]), labels[train])
    found: np.ndarray = machine.predict(scaler.transform(feat[val]))
    return found


FIT = ("train", "-d", "x.zip", "-ts", "train.txt", "-od", "out")
SCORE = ("validate", "-d", "x.zip", "-vs", "val.txt")


def test_a_machine_on_features_is_that_of_scikit_learn(cli, zipped):
    feat, labels = zipped
    before = Path("x.zip").read_bytes()
    status, out, err = cli(*FIT, "-mn", "m", "-s", "-smi", -1)
    assert (status, out) == (0, "Model out/m\n"), err
    status, out, err = cli(*SCORE, "-mp", "out/m", "--json")
    assert status == 0, err
    found, truth = json.loads(out), expected(feat, labels, TRAIN, VAL)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels[VAL], truth), abs=1e-6)
    assert found["kappa"] == pytest.approx(cohen_kappa_score(labels[VAL], truth), abs=1e-6)
    assert 0.4 < found["accuracy"] < 1  # the classes overlap: a constant or perfect answer would prove nothing
    assert Path("x.zip").read_bytes() == before
    status, out, _ = cli(*SCORE, "-mp", "out/m")
    assert [line.partition(":")[0] for line in out.splitlines()][:2] == ["accuracy", "kappa"]


def test_the_machines_weights_are_those_of_scikit_learn(cli, zipped):
    feat, labels = zipped
    assert cli(*FIT, "-mn", "m", "-s", "-smi", -1)[0] == 0
    header, weights = load(Path("out/m"))
    scaler = StandardScaler().fit(feat[TRAIN].astype(np.float64))
    machine = SVC(kernel="linear", C=100.0).fit(scaler.transform(feat[TRAIN]), labels[TRAIN])
    assert header.channels == FEATURES
    assert [spec.name for spec in header.classes] == ["1", "2", "3"]
    np.testing.assert_allclose(weights["image_head.weight"], machine.coef_, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("flags", [("-c",), ("-b",), ()])
def test_a_dense_classifier_learns_from_features(cli, zipped, flags):
    feat, labels = zipped
    assert cli(*FIT, "-mn", "m", "-e", 40, "-bs", 12, *flags)[0] == 0
    status, out, err = cli(*SCORE, "-mp", "out/m", "--json")
    assert status == 0, err
    truth = accuracy_score(labels[VAL], expected(feat, labels, TRAIN, VAL))
    assert json.loads(out)["accuracy"] >= truth - 0.15


def test_an_architecture_gives_the_classifier_alone(cli, zipped):
    layers = {
        "linear1": {"operation": "linear", "params": {"in_features": -1, "out_features": 9}},
        "relu": {"operation": "relu"},
        "linear2": {"operation": "linear", "params": {"in_features": 9, "out_features": 3}},
    }
    Path("arch.json").write_text(json.dumps({"features": {"layers": {}}, "classifier": {"layers": layers}}))
    assert cli(*FIT, "-mn", "m", "-e", 2, "-ad", "arch.json")[0] == 0
    _, weights = load(Path("out/m"))
    assert sorted(array.shape for array in weights.values() if array.ndim == 2) == [(3, 9), (9, FEATURES)]
    status, _, err = cli(*SCORE, "-mp", "out/m")
    assert status == 0, err
    filters = {"conv1": {"operation": "conv2d", "params": {"kernel_size": 1, "out_channels": 3}}}
    Path("arch.json").write_text(json.dumps({"features": {"layers": filters}}))
    status, _, err = cli(*FIT, "-mn", "other", "-ad", "arch.json")
    assert status == 1
    assert "conv1" in err
    assert "x.zip" in err


def test_the_same_command_again_learns_nothing_anew(cli, zipped):
    assert cli(*FIT, "-mn", "m", "-s")[0] == 0
    first = {path.name: path.read_bytes() for path in Path("out/m").iterdir()}
    status, _, err = cli(*FIT, "-mn", "m", "-s")
    assert status == 0
    assert "learned before" in err
    assert {path.name: path.read_bytes() for path in Path("out/m").iterdir()} == first


def test_samples_that_taught_never_score(cli, zipped):
    assert cli(*FIT, "-mn", "m", "-s")[0] == 0
    both = Path("train.txt").read_text().splitlines()[:5] + Path("val.txt").read_text().splitlines()
    write_split("val.txt", both)
    status, out, err = cli(*SCORE, "-mp", "out/m", "--json")
    assert status == 0, err
    assert "5 of 29 samples taught the model" in json.loads(out)["notes"][0]
    write_split("val.txt", both[:5])
    status, _, err = cli(*SCORE, "-mp", "out/m")
    assert status == 1
    assert "All 5 samples" in err


def test_a_copy_of_what_taught_never_scores_either(cli, zipped):
    feat, labels = zipped
    assert cli(*FIT, "-mn", "m", "-s")[0] == 0
    feat[VAL[0]] = feat[TRAIN[0]]
    write_opf(Path("x.zip"), feat, labels)
    write_split("val.txt", [f"{labels[place]}_{place}" for place in VAL])
    status, out, err = cli(*SCORE, "-mp", "out/m", "--json")
    assert status == 0, err
    assert json.loads(out)["notes"][0].startswith("1 of 24 samples")


def test_the_true_label_counts_and_not_the_name(cli, zipped):
    feat, labels = zipped
    assert cli(*FIT, "-mn", "m", "-s")[0] == 0
    truth = json.loads(cli(*SCORE, "-mp", "out/m", "--json")[1])
    write_opf(Path("x.zip"), feat, labels, names=[f"{4 - klass}_{place}.png" for place, klass in enumerate(labels)])
    write_split("train.txt", [f"{4 - labels[place]}_{place}.png" for place in TRAIN])
    write_split("val.txt", [f"{4 - labels[place]}_{place}.png" for place in VAL])
    assert cli(*FIT, "-mn", "turned", "-s")[0] == 0
    assert json.loads(cli(*SCORE, "-mp", "out/turned", "--json")[1]) == truth


def test_names_without_files_are_class_and_id(cli, zipped):
    """Spelled with zeros and endings or without; ids need not be places, and order is not that of the archive."""
    feat, labels = zipped
    assert cli(*FIT, "-mn", "named", "-s")[0] == 0
    ids = 1000 - np.arange(60)
    write_opf(Path("x.zip"), feat, labels, ids=ids)
    write_split("train.txt", [f"{labels[place]}_{ids[place]}" for place in TRAIN])
    write_split("val.txt", [f"{labels[place]:06d}_{ids[place]:08d}.png" for place in VAL])
    assert cli(*FIT, "-mn", "numbered", "-s")[0] == 0
    answers = []
    for name in ("named", "numbered"):
        status, out, err = cli(*SCORE, "-mp", f"out/{name}", "--json")
        assert status == 0, err
        answers.append({key: value for key, value in json.loads(out).items() if key != "notes"})
    assert answers[0] == answers[1]


def test_names_with_other_endings_are_those_of_the_archive(zipped):
    from fieldmark.workbench.flim.vectors import read_vectors

    vectors = read_vectors(Path("x.zip"))
    write_split("some.txt", ["000002_00000001.mimg", "here/000001_00000000.png", "3_5", "000002_00000001.png"])
    assert vectors.places(Path("some.txt")) == [1, 0, 5]


@pytest.mark.parametrize(
    ("facts", "names", "words"),
    [
        ({}, ["1_0", "7_77"], ["7_77", "x.zip", "1_0"]),
        ({"ids": np.zeros(60)}, ["1_0"], ["1_0", "several", "ref_data.csv"]),
        ({"true_label": 0}, ["0_3", "2_1"], ["no true label", "0_3"]),
        ({"feat": np.nan}, ["1_3", "2_1"], ["NaN", "1_3"]),
        ({}, [], ["no image"]),
        ({"names": ["n" * 300] * 60}, ["1_0"], ["name of 300 letters"]),
    ],
)
def test_splits_that_do_not_fit(cli, facts, names, words):
    feat, labels = drawn()
    if "true_label" in facts:
        labels[3] = facts.pop("true_label")
    if "feat" in facts:
        feat[3, 4] = facts.pop("feat")
    write_opf(Path("x.zip"), feat, labels, **facts)
    write_split("train.txt", names)
    status, _, err = cli(*FIT, "-mn", "m", "-s")
    assert status == 1
    assert [word for word in words if word not in " ".join(err.split())] == []
    assert not Path("out/m").exists()


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("-md", "."), "-md"),
        (("-i", "-l", "conv1"), "-i"),
        (("-ld", "-ldd", "."), "-ld"),
        (("-rb", 1), "-rb"),
        (("--set", "family=flim"), "family=flim"),
        (("--set", "family=unet", "net={}"), "family=unet"),
        (("-d", "none.zip"), "none.zip"),
    ],
)
def test_what_needs_images_is_refused(cli, zipped, flags, word):
    status, _, err = cli(*FIT, "-mn", "m", "-s", *flags)
    assert status == 1
    assert word in err
    assert not Path("out/m").exists()


def test_filters_cannot_be_trained_on_features_and_the_command_says_so(cli, zipped):
    status, _, err = cli(*FIT, "-mn", "all", "-b", "-e", 2)
    assert status == 0, err
    assert "-b trains filters too, and features come without any" in " ".join(err.split())
    status, _, err = cli(*FIT, "-mn", "plain", "-c", "-e", 2)
    assert status == 0, err
    assert "-b " not in err


def test_nothing_is_drawn_on_features_and_nothing_scored_before_that_is_told(cli, zipped):
    assert cli(*FIT, "-mn", "m", "-e", 1)[0] == 0
    status, out, err = cli(*SCORE, "-mp", "out/m", "--grad-cam", "-od", "seen")
    assert (status, out) == (1, "")
    assert "drawn on images" in " ".join(err.split())
    assert "answer " not in err
    assert not Path("seen").exists()


@pytest.mark.parametrize("flags", [("-s",), ("-e", 1)])
def test_flattened_maps_may_be_many(cli, zipped, flags):
    """More than 65,535: 178 maps of 20 x 20 samples."""
    feat, labels = zipped
    many = np.zeros((len(feat), 178 * 20 * 20), np.float32)
    many[:, -7:] = feat
    write_opf(Path("x.zip"), many, labels)
    status, _, err = cli(*FIT, "-mn", "m", *flags)
    assert status == 0, err
    status, out, err = cli(*SCORE, "-mp", "out/m")
    assert status == 0, err
    assert float(out.split()[1]) > 0.5


def test_a_split_is_needed(cli, zipped):
    status, _, err = cli("train", "-d", "x.zip", "-od", "out", "-mn", "m")
    assert status == 1
    assert "-ts" in err


def test_another_number_of_features_is_refused(cli, zipped):
    feat, labels = zipped
    assert cli(*FIT, "-mn", "m", "-s")[0] == 0
    write_opf(Path("x.zip"), feat[:, :5], labels)
    status, _, err = cli(*SCORE, "-mp", "out/m")
    assert status == 1
    assert "7 features" in err
    assert "has 5" in " ".join(err.split())


SIDE = 12
LAYERS = {
    "norm1": {"operation": "m_norm2d", "params": {"kernel_size": 3}},
    "conv1": {
        "operation": "conv2d",
        "params": {"kernel_size": 3, "padding": 1, "out_channels": 4, "number_of_kernels_per_marker": 2},
    },
    "activation1": {"operation": "relu"},
    "pool1": {"operation": "max_pool2d", "params": {"kernel_size": 2, "stride": 2}},
}


@pytest.fixture
def images() -> None:
    """`images` of two classes that overlap, with marker files, splits and `arch.json`; small, three channels."""
    rng = np.random.default_rng(5)
    names: dict[int, list[str]] = {1: [], 2: []}
    Path("images").mkdir()
    for klass, own in names.items():
        for number in range(12):
            at = (np.mgrid[:SIDE, :SIDE][klass - 1] + rng.integers(6)) // 3 % 2
            gray = 90 + 30 * at + rng.normal(0, 25, (SIDE, SIDE))
            pixels = np.stack([gray, gray * 0.8, 200 - gray * 0.5], axis=-1).clip(0, 255).astype(np.uint8)
            own.append(f"{klass:06d}_{number:08d}.png")
            Path("images", own[-1]).write_bytes(encode_png(pixels))
        marks = [f"{x} {y} -1 {klass}\n" for y in range(3, 9) for x in range(3, 9)]
        Path("markers").mkdir(exist_ok=True)
        Path("markers", own[0].replace(".png", ".txt")).write_text(f"{len(marks)} {SIDE} {SIDE}\n{''.join(marks)}")
    write_split("train.txt", names[1][:7] + names[2][:7])
    write_split("val.txt", names[1][7:] + names[2][7:])
    write_split("all.txt", names[1] + names[2])
    Path("arch.json").write_text(json.dumps({"features": {"layers": LAYERS}}))


FROM_IMAGES = ("train", "-d", "images", "-md", "markers", "-ad", "arch.json", "-od", "out")


def test_layers_written_as_a_zip_teach_what_the_images_do(cli, images):
    """A machine on the zip answers as one on the network's flattened maps, and as scikit-learn's on the zip's rows."""
    assert cli(*FROM_IMAGES, "-ts", "train.txt", "-mn", "pixels", "-s", "-smi", -1)[0] == 0
    assert cli(*FROM_IMAGES, "-ts", "all.txt", "-mn", "layers", "-i", "-f", "zip", "-l", "pool1")[0] == 0
    archive = Path("out/intermediate-outputs/pool1/dataset.zip")
    fit = ("train", "-d", archive, "-ts", "train.txt", "-od", "out", "-mn", "features", "-s", "-smi", -1)
    assert cli(*fit)[0] == 0
    found = {}
    for data, model in (("images", "out/pixels"), (archive, "out/features")):
        status, out, err = cli("validate", "-d", data, "-vs", "val.txt", "-mp", model, "--json")
        assert status == 0, err
        found[model] = json.loads(out)
    assert found["out/pixels"]["accuracy"] == pytest.approx(found["out/features"]["accuracy"])
    assert found["out/pixels"]["kappa"] == pytest.approx(found["out/features"]["kappa"])
    assert 0.4 < found["out/pixels"]["accuracy"] < 1
    heads = [load(Path(model))[1] for model in found]
    for part in ("weight", "mean", "std"):
        one, other = (weights[f"image_head.{part}"] for weights in heads)
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    saved = read_opf(archive)
    places = {Path(name).name: place for place, name in enumerate(saved.names)}
    train, val = (
        np.array([places[name] for name in Path(f"{part}.txt").read_text().split()]) for part in ("train", "val")
    )
    assert saved.feat.shape == (24, 4 * 6 * 6)
    truth = accuracy_score(saved.true_label[val], expected(saved.feat, saved.true_label, train, val))
    assert found["out/features"]["accuracy"] == pytest.approx(truth)


def test_models_of_images_and_of_features_are_told_apart(cli, images):
    assert cli(*FROM_IMAGES, "-ts", "train.txt", "-mn", "pixels", "-s")[0] == 0
    feat, labels = drawn()
    write_opf(Path("x.zip"), feat[:, :3], labels)  # as many features as the images have channels
    write_split("features.txt", [f"{labels[place]}_{place}" for place in TRAIN])
    assert cli("train", "-d", "x.zip", "-ts", "features.txt", "-od", "out", "-mn", "features", "-s")[0] == 0
    for data, split, model, word in (
        ("x.zip", "features.txt", "out/pixels", "judges images"),
        ("images", "val.txt", "out/features", "OPF data set"),
    ):
        status, _, err = cli("validate", "-d", data, "-vs", split, "-mp", model)
        assert status == 1
        assert word in " ".join(err.split())
    write_split("features.txt", [f"{labels[place]}_{place}" for place in VAL])
    for command in (
        ("explain", "-d", "images", "-ts", "val.txt", "-mp", "out/features", "-od", "seen"),
        ("select", "-d", "images", "-s", "val.txt", "-md", "chosen", "--model", "out/features"),
        ("validate", "-d", "x.zip", "-vs", "features.txt", "-mp", "out/features", "--grad-cam", "-od", "seen"),
    ):
        status, _, err = cli(*command)
        assert status == 1
        assert "OPF data set" in " ".join(err.split())
    for command in (
        ("explain", "-d", "x.zip", "-ts", "features.txt", "-mp", "out/pixels", "-od", "seen"),
        ("select", "-d", "x.zip", "-s", "features.txt", "-md", "chosen"),
        ("split", "-d", "x.zip", "-n", "parts", "-ts", 0.5),
    ):
        status, _, err = cli(*command)
        assert status == 1
        assert "is a file" in err
