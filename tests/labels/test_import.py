"""Labels from files: conventions, pairing, real markers and masks; all or nothing."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import imagecodecs
import numpy as np
import pytest
from scipy import ndimage

from fieldmark.errors import BadFile, BadInput, FieldmarkError
from fieldmark.images import encode_png
from fieldmark.labels.records import ImportReport

if TYPE_CHECKING:
    from .conftest import Project


@pytest.fixture
def plot(project: Project) -> Project:
    """Two images of 40 x 30 and two classes."""
    project.add_image("one.png", width=40, height=30)
    project.add_image("sub/two.tif", width=40, height=30)
    project.add_classes("background", "egg")
    return project


def bring(project: Project, kind: str, path: Path | None = None, **options: int) -> ImportReport:
    return project.labels.import_folder(
        path or project.folder / "files", kind, author="ada", collection=project.collection, **options
    )


def put(project: Project, name: str, content: str | np.ndarray) -> Path:
    path = project.folder / "files" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else encode_png(content))
    return path


def put_markers(project: Project, name: str, *pixels: tuple[int, int, int], size: str = "40 30") -> Path:
    """Pixels are x, y, label."""
    lines = [f"{x} {y} -1 {label}" for x, y, label in pixels]
    return put(project, name, "\n".join([f"{len(lines)} {size}", *lines]) + "\n")


def test_accents_are_the_same_however_they_are_written(project: Project) -> None:
    project.add_image(unicodedata.normalize("NFD", "zélle/ä.png"), width=40, height=30)
    project.add_classes("cell")
    put_markers(project, unicodedata.normalize("NFC", "zélle/ä-seeds.txt"), (5, 2, 1))
    assert bring(project, "markers").left_out == []
    assert project.classes_of(1)[2, 5] == 1


def test_labels_from_zero_are_detected_over_all_files(plot: Project) -> None:
    """A file that holds the egg alone must not make it the background."""
    put_markers(plot, "one-seeds.txt", (5, 2, 0), (30, 20, 1))
    put_markers(plot, "sub/two-seeds.txt", (7, 9, 1))
    report = bring(plot, "markers")
    assert (plot.classes_of(1)[2, 5], plot.classes_of(1)[20, 30], plot.classes_of(2)[9, 7]) == (1, 2, 2)
    assert report.notes == [
        "Label 0 occurs, so 1 was added to every label (--label-offset 0 takes them as they are): "
        "0 is 'background', 1 is 'egg'."
    ]
    assert (report.images, report.strokes, report.left_out) == (2, 3, [])


def test_labels_from_one_are_detected(plot: Project) -> None:
    put_markers(plot, "one.txt", (5, 2, 1), (30, 20, 2))
    report = bring(plot, "markers")
    assert (plot.classes_of(1)[2, 5], plot.classes_of(1)[20, 30]) == (1, 2)
    assert "No label 0 occurs" in report.notes[0]


def test_the_offset_can_be_forced(plot: Project) -> None:
    put_markers(plot, "one.txt", (5, 2, 1))
    assert "As asked, 1 was added" in bring(plot, "markers", label_offset=1).notes[0]
    assert plot.classes_of(1)[2, 5] == 2
    put_markers(plot, "one.txt", (6, 2, 0), (7, 2, 1))
    bring(plot, "markers", label_offset=0)
    assert plot.classes_of(1)[2, 5:8].tolist() == [2, 0, 1]  # label 0 is unmarked then


def test_a_stroke_is_a_connected_piece_of_one_label(plot: Project) -> None:
    # a diagonal is connected, a knight's move is not, and a neighbour of another label is another stroke
    put_markers(plot, "one.txt", (5, 5, 1), (6, 6, 1), (8, 7, 1), (6, 5, 2), (20, 20, 2), (21, 20, 2))
    bring(plot, "markers")
    found = {(stroke.class_id, stroke.pixels) for stroke in plot.labels.strokes()}
    assert found == {(1, 2), (1, 1), (2, 1), (2, 2)}
    assert {stroke.source for stroke in plot.labels.strokes()} == {"import:markers:one.txt"}


def test_of_two_labels_on_a_pixel_the_last_wins_and_it_is_said(plot: Project) -> None:
    path = put_markers(plot, "one.txt", (5, 5, 1), (5, 5, 2), (9, 9, 2), (9, 9, 1))
    report = bring(plot, "markers")
    assert (plot.classes_of(1)[5, 5], plot.classes_of(1)[9, 9]) == (2, 1)
    assert f"{path}: 2 pixels carry two labels; the last in the file was taken." in report.notes


def test_markers_of_a_volume(project: Project) -> None:
    image = project.add_image("stack.tif", width=40, height=30, depth=5)
    project.add_classes("a", "b")
    put(project, "stack-seeds.txt", "2 40 30 5\n5 2 4 -1 1\n6 3 0 -1 2\n")
    bring(project, "markers")
    assert project.labels.planes(image) == [(0, 0), (0, 4)]
    assert project.classes_of(image, 0, 4)[2, 5] == 1


BAD = {
    "too high a label": ((("one.txt", [(1, 1, 3)]),), "label 3 is no class .classes: 1 background, 2 egg;"),
    "too high with offset": ((("one.txt", [(1, 1, 0), (2, 2, 2)]),), "label 2 is no class"),
    "another size": ((("one.txt", [(1, 1, 1)], "41 30"),), r"declares an image of 41 x 30 pixels; one\.png is 40 x 30"),
    "turned": ((("one.txt", [(1, 1, 1)], "30 40"),), "declares an image of 30 x 40"),
    "a volume": ((("one.txt", [], "40 30 7"),), "declares an image of 40 x 30 x 7"),
    "two for one image": ((("one.txt", [(1, 1, 1)]), ("one-seeds.txt", [(1, 1, 1)])), "about the same image, one.png"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_do_not_fit_are_refused_whole(name: str, plot: Project) -> None:
    files, message = BAD[name]
    put_markers(plot, "sub/two.txt", (1, 1, 1))
    for file, pixels, *size in files:
        put_markers(plot, file, *pixels, **({"size": size[0]} if size else {}))
    before = plot.store.revision
    with pytest.raises(BadFile, match=message):
        bring(plot, "markers")
    assert plot.store.revision == before
    assert plot.labels.strokes() == []


def test_all_bad_files_are_named(plot: Project) -> None:
    one = put(plot, "one.txt", "1 40 30\nx\n")
    two = put(plot, "sub/two.txt", "7 40 30\n")
    with pytest.raises(BadFile, match="2 files cannot be imported, so nothing was:") as caught:
        bring(plot, "markers")
    assert f"  {one}: line 2" in str(caught.value)
    assert f"  {two}: its first line promises 7" in str(caught.value)
    assert plot.labels.strokes() == []


def test_files_of_no_image_are_left_out_and_named(plot: Project) -> None:
    put_markers(plot, "one.txt", (1, 1, 1))
    other = put_markers(plot, "other.txt", (1, 1, 1))
    put(plot, "notes.md", "hello")
    assert bring(plot, "markers").left_out == [(str(other), "no image of the project has its name")]
    (plot.folder / "files" / "one.txt").unlink()
    with pytest.raises(
        BadInput, match=r"no markers file has the name of an image of the project \(found: .*other\.txt\)"
    ):
        bring(plot, "markers")


def test_a_name_in_several_folders_needs_its_folder(plot: Project) -> None:
    plot.add_image("sub/one.png", width=40, height=30)
    put_markers(plot, "sub/one.txt", (3, 3, 2))
    put_markers(plot, "one.txt", (1, 1, 1))
    bring(plot, "markers")
    assert (plot.classes_of(1)[1, 1], plot.classes_of(3)[3, 3]) == (1, 2)
    put_markers(plot, "elsewhere/one.txt", (1, 1, 1))
    with pytest.raises(BadFile, match=r"could belong to one\.png and sub/one\.png"):
        bring(plot, "markers")


def test_a_file_in_a_folder_of_images_is_of_no_image_elsewhere(plot: Project) -> None:
    put_markers(plot, "sub/one.txt", (5, 2, 1))
    put_markers(plot, "deep/two.txt", (6, 2, 1))
    report = bring(plot, "markers")
    assert [Path(name).name for name, _ in report.left_out] == ["one.txt"]
    assert not plot.classes_of(1).any()
    assert plot.classes_of(2)[2, 6] == 1


def test_a_dense_map_is_one_set_a_class(plot: Project) -> None:
    plot.labels.add_class("rest")
    values = np.random.default_rng(0).integers(0, 4, (30, 40)).astype(np.uint8)
    put(plot, "one.png", values)
    report = bring(plot, "masks")
    assert (plot.classes_of(1) == values).all()
    assert [stroke.class_id for stroke in plot.labels.strokes()] == [1, 2, 3]
    assert report.notes == [
        "0 means unknown, other values are the places of classes: 1 is 'background', 2 is 'egg', 3 is 'rest'."
    ]


@pytest.mark.parametrize("high", [1, 255])
def test_a_map_of_two_values_for_two_classes_is_first_and_last(plot: Project, high: int) -> None:
    values = np.zeros((30, 40), np.uint8)
    values[3:9, 4:8] = high
    put(plot, "one_mask.png", values)
    put(plot, "sub/two.png", np.zeros((30, 40), np.uint8))
    report = bring(plot, "masks")
    assert (plot.classes_of(1) == np.where(values, 2, 1)).all()
    assert (plot.classes_of(2) == 1).all()
    assert f"0 is 'background' and {high} is 'egg'" in report.notes[0]


def test_a_map_of_two_values_can_be_taken_at_its_word(plot: Project) -> None:
    values = np.zeros((30, 40), np.uint8)
    values[3:9, 4:8] = 1
    put(plot, "one.png", values)
    bring(plot, "masks", label_offset=0)
    assert (plot.classes_of(1) == values).all()


def test_maps_of_nothing_say_nothing(plot: Project) -> None:
    put(plot, "one.png", np.zeros((30, 40), np.uint8))
    assert bring(plot, "masks").strokes == 0
    assert not plot.classes_of(1).any()


def test_files_without_a_label_say_so_in_a_whole_sentence(plot: Project) -> None:
    put_markers(plot, "one.txt")
    assert bring(plot, "markers").notes == ["The files hold no label."]
    assert bring(plot, "markers", label_offset=3).notes == ["The files hold no label."]
    put_markers(plot, "one.txt", (5, 2, 1))
    with pytest.raises(BadFile, match=r"2 egg; As asked, -5 was added to every value\.\) Add the class"):
        bring(plot, "markers", label_offset=-5)


def test_a_value_can_mean_unknown(plot: Project) -> None:
    values = np.full((30, 40), 255, np.uint8)
    values[:5], values[5:9] = 0, 1
    put(plot, "one.png", values)
    bring(plot, "masks", ignore=255)
    wanted = np.zeros((30, 40))
    wanted[:5], wanted[5:9] = 1, 2
    assert (plot.classes_of(1) == wanted).all()


def test_two_values_for_three_classes_are_no_pair(plot: Project) -> None:
    plot.labels.add_class("rest")
    values = np.zeros((30, 40), np.uint8)
    values[0, 0] = 255
    put(plot, "one.png", values)
    with pytest.raises(BadFile, match="label 255 is no class"):
        bring(plot, "masks")


def test_scribbles_are_strokes(plot: Project) -> None:
    values = np.zeros((30, 40), np.uint16)
    values[2, 3:9] = values[10, 3:9] = 1
    values[20, 5] = 2
    put(plot, "one_scribble.png", values)
    bring(plot, "scribbles")
    assert (plot.classes_of(1) == values).all()
    assert sorted((stroke.class_id, stroke.pixels) for stroke in plot.labels.strokes()) == [(1, 6), (1, 6), (2, 1)]


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((31, 40), np.uint8), "it has 40 x 31 pixels; its image has 40 x 30"),
        (np.random.default_rng(0).integers(0, 9, (30, 40, 3)).astype(np.uint8), "color picture"),
        (np.zeros((30, 40, 4), np.uint8), "4 channels"),
    ],
)
def test_pictures_that_are_no_map_are_refused(plot: Project, picture: np.ndarray, message: str) -> None:
    put(plot, "one.png", picture)
    with pytest.raises(BadFile, match=message):
        bring(plot, "masks")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((30, 40), 0.5, np.float32), "fractions"),
        (np.full((30, 40), -1, np.int16), "from -1 to -1"),
        (np.full((30, 40), 70_000, np.int32), "labels go from 0"),
    ],
)
def test_numbers_that_are_no_labels_are_refused(plot: Project, values: np.ndarray, message: str) -> None:
    (plot.folder / "files").mkdir()
    np.save(plot.folder / "files" / "one.npy", values)
    with pytest.raises(BadFile, match=message):
        bring(plot, "masks")


def test_a_damaged_picture_is_refused(plot: Project) -> None:
    path = put(plot, "one.png", np.ones((30, 40), np.uint8))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BadFile, match=r"one\.png"):
        bring(plot, "masks")


def test_labels_that_are_covered_are_counted(plot: Project) -> None:
    put_markers(plot, "one.txt", (5, 2, 1), (6, 2, 1))
    bring(plot, "markers")
    assert "2 pixels had labels already" in bring(plot, "markers").notes[-1]


def test_an_unknown_kind_or_place_is_refused(plot: Project) -> None:
    with pytest.raises(BadInput, match="use one of markers, masks, scribbles, answers, points"):
        bring(plot, "doodles")
    with pytest.raises(BadFile, match="no such file or folder"):
        bring(plot, "markers")


def test_answers_are_imported(plot: Project) -> None:
    rows = ["one.png,egg,yes,cleo,2026-01-02T03:04:05+00:00", "sub/two.tif,egg,NO,,", "one.png,background,unknown,,"]
    table = "\n".join(["image,class,value,who,when", *rows, ""])
    report = bring(plot, "answers", put(plot, "answers.csv", table))
    first, second = plot.labels.answers()
    assert (first.value, first.author, first.time) == (True, "cleo", "2026-01-02T03:04:05+00:00")
    assert (second.value, second.author) == (False, "ada")
    assert report.strokes == 3
    plot.store.undo("ada")
    assert plot.labels.answers() == []


def test_bad_rows_are_all_named_and_nothing_is_written(plot: Project) -> None:
    rows = ["one.png,egg,yes,", "none.png,egg,yes,", "one.png,eg,yes,", "one.png,egg,maybe,", "one.png,egg,no,tomorrow"]
    table = "\n".join(["image,class,value,when", *rows, ""])
    with pytest.raises(BadFile, match="4 rows cannot be imported") as caught:
        bring(plot, "answers", put(plot, "answers.csv", table))
    for part in (
        "line 3: No image is called 'none.png'",
        "line 4: No class is called 'eg'. Did you mean 'egg'?",
        "line 5: the value is 'maybe'",
        "line 6: 'tomorrow' is no time",
    ):
        assert part in str(caught.value)
    assert plot.labels.answers() == []
    with pytest.raises(BadFile, match="its columns are image, class; value must be among them"):
        bring(plot, "answers", put(plot, "answers.csv", "image,class\n"))


def test_points_are_imported(plot: Project) -> None:
    report = bring(plot, "points", put(plot, "points.csv", "image,class,y,x\none.png,egg,2.5,30.25\n"))
    (point,) = plot.labels.points()
    assert (point.t, point.z, point.y, point.x, point.author, report.strokes) == (0, 0, 2.5, 30.25, "ada", 1)
    for row in ("one.png,egg,2.5,41", "one.png,egg,x,1", "one.png,egg,nan,1"):
        with pytest.raises(BadFile):
            bring(plot, "points", put(plot, "points.csv", f"image,class,y,x\n{row}\n"))
    assert len(plot.labels.points()) == 1


# real files


def read_png(path: Path) -> np.ndarray:
    return np.asarray(imagecodecs.png_decode(path.read_bytes()))


def test_real_egg_markers(data_dir: Path, project: Project) -> None:
    project.collection.add_images(data_dir / "eggs" / "orig")
    project.add_classes("background", "egg")
    report = bring(project, "markers", data_dir / "eggs" / "markers")
    assert report.images == 5
    assert "0 is 'background', 1 is 'egg'" in report.notes[0]
    for path in sorted((data_dir / "eggs" / "markers").glob("*-seeds.txt")):
        image = project.collection.find(path.name.removesuffix("-seeds.txt") + ".png")
        wanted, lines = np.zeros((400, 400), dtype=np.int32), path.read_text().splitlines()
        for line in lines[1:]:
            x, y, _, label = map(int, line.split())
            wanted[y, x] = label + 1
        assert (project.classes_of(image.id) == wanted).all()
        pieces = sum(ndimage.label(wanted == value, np.ones((3, 3)))[1] for value in (1, 2))
        assert len(project.labels.strokes(image.id)) == pieces
        assert sum(stroke.pixels for stroke in project.labels.strokes(image.id)) == int(lines[0].split()[0])


def test_the_real_bears_markers_count_from_one(data_dir: Path, project: Project) -> None:
    project.collection.add_images(data_dir / "bear")
    project.add_classes("bear", "rest")
    report = bring(project, "markers", data_dir / "bear")
    assert "No label 0 occurs" in report.notes[0]
    assert sum(project.labels.count_pixels().values()) == 14_920


def test_the_real_egg_masks(data_dir: Path, project: Project) -> None:
    project.collection.add_images(data_dir / "eggs" / "orig")
    project.add_classes("background", "egg")
    bring(project, "masks", data_dir / "eggs" / "label")
    for image in project.collection.all():
        truth = read_png(data_dir / "eggs" / "label" / image.name)
        assert (project.classes_of(image.id) == np.where(truth == 255, 2, 1)).all()


def test_three_peoples_real_scribbles(data_dir: Path, make_project: Callable[[], Project]) -> None:
    folder = data_dir / "scribbles" / "WBC" / "036_axis0_midslice"
    for person in range(3):
        project = make_project()
        image = project.add_image("wbc.png", width=256, height=256)
        project.add_classes("background", "object")
        values = read_png(folder / f"scribble_{person}.png")
        put(project, "wbc.png", values)
        bring(project, "scribbles")
        assert (project.classes_of(image) == values).all()


def test_maps_beside_their_images_are_not_the_images(data_dir: Path, project: Project) -> None:
    """A folder with images and markers is imported for its markers; the images are passed over."""
    project.collection.add_images(data_dir / "coseg" / "imgs_and_markers")
    project.add_classes("background", "object")
    with pytest.raises(FieldmarkError, match="no masks file"):
        bring(project, "masks", data_dir / "coseg" / "imgs_and_markers")
    assert bring(project, "markers", data_dir / "coseg" / "imgs_and_markers").images == 2
