"""Markers as pictures: 0 is unmarked, other values are labels; any format that holds whole numbers."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fieldmark.errors import BadFile
from fieldmark.images import encode_png
from fieldmark.images.writers.mimg import write_mimg
from fieldmark.labels.records import ImportReport

if TYPE_CHECKING:
    from .conftest import Project


@pytest.fixture
def plot(project: Project) -> Project:
    """Two images of 40 x 30, a stack of 5, and two classes; the images stand elsewhere."""
    project.add_image("one.png", width=40, height=30)
    project.add_image("sub/two.tif", width=40, height=30)
    project.add_image("stack.nii.gz", width=40, height=30, depth=5)
    project.add_classes("background", "egg")
    (project.folder / "files").mkdir()
    return project


def bring(project: Project, path: Path | None = None, **options: int) -> ImportReport:
    path = path or project.folder / "files"
    return project.labels.import_folder(path, "markers", author="ada", collection=project.collection, **options)


def marked(*shape: int) -> np.ndarray:
    values = np.zeros(shape or (30, 40), np.uint8)
    values[..., 2, 5:9] = 1
    values[..., 20, 30] = 2
    return values


def write_tiff(path: Path, values: np.ndarray) -> None:
    import tifffile

    tifffile.imwrite(path, values.astype(np.uint16))


def write_nifti(path: Path, values: np.ndarray) -> None:
    nibabel = pytest.importorskip("nibabel", reason="the extra `nifti` is not installed")
    order = range(values.ndim)[::-1]  # NIfTI keeps x first
    data = nibabel.Nifti1Image(values.transpose(*order), np.eye(4)).to_bytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


WRITERS: dict[str, Callable[[Path, np.ndarray], object]] = {
    "one.png": lambda path, values: path.write_bytes(encode_png(values)),
    "one-seeds.png": lambda path, values: path.write_bytes(encode_png(values)),
    "one_markers.tif": write_tiff,
    "one.npy": np.save,
    "one.mimg": lambda path, values: write_mimg(path, values[None]),
    "one.nii": write_nifti,
    "one-seeds.nii.gz": write_nifti,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_picture_is_read_in_any_format(plot: Project, name: str) -> None:
    WRITERS[name](plot.folder / "files" / name, marked())
    report = bring(plot)
    assert (plot.classes_of(1) == marked()).all()
    assert report.strokes == 2
    assert "1 of the files are pictures: 0 means unmarked there." in report.notes
    assert "1 is 'background', 2 is 'egg'" in report.notes[0]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("stack.npy", np.save),
        ("stack-seeds.nii.gz", write_nifti),
        ("stack.mimg", lambda path, values: write_mimg(path, values[None])),
    ],
)
def test_a_volume_is_read(plot: Project, name: str, write: Callable[[Path, np.ndarray], object]) -> None:
    values = np.zeros((5, 30, 40), np.uint8)
    values[4, 2, 5:9], values[0, 20, 30] = 1, 2
    write(plot.folder / "files" / name, values)
    bring(plot)
    assert plot.labels.planes(3) == [(0, 0), (0, 4)]
    for z in range(5):
        assert (plot.classes_of(3, 0, z) == values[z]).all()


def test_a_file_alone_is_a_marker_picture(plot: Project) -> None:
    (plot.folder / "files" / "one.png").write_bytes(encode_png(marked()))
    bring(plot, plot.folder / "files" / "one.png")
    assert (plot.classes_of(1) == marked()).all()


def test_copies_of_images_beside_text_files_are_passed_over(plot: Project) -> None:
    folder = plot.folder / "files"
    (folder / "one.png").write_bytes(
        encode_png(np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8))
    )
    (folder / "one-seeds.txt").write_text("2 40 30\n5 2 -1 0\n30 20 -1 1\n")
    (folder / "notes.txt").write_text("words")
    report = bring(plot)
    assert (plot.classes_of(1)[2, 5], plot.classes_of(1)[20, 30]) == (1, 2)
    assert [Path(name).name for name, _ in report.left_out] == ["notes.txt"]


def test_text_files_and_named_pictures_come_together(plot: Project) -> None:
    folder = plot.folder / "files"
    (folder / "one-seeds.txt").write_text("1 40 30\n5 2 -1 2\n")
    (folder / "two-seeds.png").write_bytes(encode_png(marked()))
    bring(plot)
    assert plot.classes_of(1)[2, 5] == 2
    assert (plot.classes_of(2) == marked()).all()


def test_two_ways_to_count_are_not_mixed(plot: Project) -> None:
    folder = plot.folder / "files"
    (folder / "one-seeds.txt").write_text("1 40 30\n5 2 -1 0\n")
    (folder / "two-seeds.png").write_bytes(encode_png(marked()))
    with pytest.raises(BadFile, match="counts labels from 0, but in a picture"):
        bring(plot)
    assert plot.labels.strokes() == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (marked(31, 40), "its image has 40 x 30"),
        (marked() * 255, "the label 254 is no class|the label 255 is no class"),
        (np.dstack([marked(), marked() * 2, marked()]), "a color picture"),
    ],
)
def test_pictures_that_do_not_fit_are_refused(plot: Project, values: np.ndarray, message: str) -> None:
    (plot.folder / "files" / "one.png").write_bytes(encode_png(values))
    with pytest.raises(BadFile, match=message):
        bring(plot)
    assert plot.labels.strokes() == []


def test_an_offset_counts_marked_pixels_alone(plot: Project) -> None:
    (plot.folder / "files" / "one.png").write_bytes(encode_png((marked() == 1).astype(np.uint8)))
    bring(plot, label_offset=1)
    assert (plot.classes_of(1) == (marked() == 1) * 2).all()
