"""The project that `flim train` makes of its folders."""

from __future__ import annotations

from fieldmark.collection.lids import LidsImage
from fieldmark.testing.projects import drawn_images
from fieldmark.workbench.flim.assemble import Teaching, assemble


def test_linked_images_of_a_split_keep_their_own_classes(tmp_path):
    """Two links to one file were one image with the answers of both."""
    images = tmp_path / "images"
    drawn_images(images, images=1)
    (images / "000002_1.png").symlink_to("drawn0.png")
    (images / "000001_1.png").symlink_to("drawn0.png")
    split = [LidsImage(images / f"00000{klass}_1.png", f"00000{klass}_1.png", klass) for klass in (2, 1)]
    bench, _ = assemble(tmp_path / "project", Teaching(None, split, split))
    with bench:
        answers = {(one.image_id, one.class_id): one.value for one in bench.labels.answers()}
        classes = {int(one.name): one.id for one in bench.labels.classes()}
        for one in split:
            assert answers[bench.collection.find(one.name).id, classes[one.klass]]
    assert len(answers) == 2
