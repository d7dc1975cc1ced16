"""Plates that other programs write are read field by field, with their wells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from fieldmark.core.geometry import Box
from fieldmark.errors import BadFile
from fieldmark.images import open_image
from fieldmark.images.plates import fields_of, is_plate
from fieldmark.workbench import Workbench

WELLS = {"A/1": 2, "B/12": 1}


def pixels(well: str, field: int) -> np.ndarray:
    """(t, c, z, y, x) that no other field holds."""
    rng = np.random.default_rng([*map(ord, well), field])
    return rng.integers(0, 4000, (2, 2, 3, 20, 30)).astype(np.uint16)


@pytest.fixture(params=["0.4", "0.5"])
def plate(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """As the reference library of the format writes it, in both of its versions."""
    from ome_zarr.format import FormatV04, FormatV05
    from ome_zarr.writer import write_image, write_plate_metadata, write_well_metadata

    form = FormatV04() if request.param == "0.4" else FormatV05()
    path = tmp_path / "plate.ome.zarr"
    root = zarr.open_group(str(path), mode="w", zarr_format=form.zarr_format)
    write_plate_metadata(root, ["A", "B"], ["1", "12"], list(WELLS), fmt=form)
    scale = {"t": 1.0, "c": 1.0, "z": 0.5, "y": 0.25, "x": 0.25}
    units = dict.fromkeys("zyx", "micrometer")
    for well, count in WELLS.items():
        group = root.require_group(well)
        write_well_metadata(group, [str(number) for number in range(count)], fmt=form)
        for number in range(count):
            write_image(
                pixels(well, number),
                group.require_group(str(number)),
                axes="tczyx",
                scale_factors=(2,),
                fmt=form,
                scale=scale,
                axes_units=units,
            )
    return path


def test_fields_are_images_and_wells_their_groups(plate, tmp_path):
    with Workbench.init(tmp_path / "project") as bench:
        report = bench.add([plate])
        assert not report.left_out
        records = {record.name: record for record in bench.collection.all()}
    where = {"plate": plate.name, "well": "B/12", "row": "B", "column": "12", "field": "0"}
    assert records["B/12/0"].columns == where
    assert {name: record.group for name, record in records.items()} == {
        "A/1/0": "A/1",
        "A/1/1": "A/1",
        "B/12/0": "B/12",
    }
    for name, record in records.items():
        well, _, number = name.rpartition("/")
        assert (record.pixel_size.z, record.pixel_size.y, record.pixel_size.x) == (0.5, 0.25, 0.25)
        with open_image(record.path) as source:
            assert np.array_equal(source.read(Box.whole(source.shape)), pixels(well, int(number)))


def test_a_plate_among_others_names_its_wells_in_full(plate, tmp_path):
    with Workbench.init(tmp_path / "project") as bench:
        bench.add([plate.parent])
        groups = {record.group for record in bench.collection.all()}
    assert groups == {"plate.ome.zarr/A/1", "plate.ome.zarr/B/12"}


def test_what_the_metadata_names_and_lacks_is_told(plate, tmp_path):
    import shutil

    shutil.rmtree(plate / "A" / "1" / "1")
    with Workbench.init(tmp_path / "project") as bench:
        report = bench.add([plate])
        assert [Path(name).relative_to(plate).as_posix() for name, _ in report.left_out] == ["A/1/1"]
        assert len(report.added) == 2


def metadata(plate: Path) -> Path:
    return plate / (".zattrs" if (plate / ".zattrs").is_file() else "zarr.json")


@pytest.mark.parametrize("well", ["../other", "/etc", "", None, "A/../../x"])
def test_wells_that_lead_out_are_refused(plate, well):
    file = metadata(plate)
    values = json.loads(file.read_text())
    inner = values if file.name == ".zattrs" else values["attributes"]["ome"]
    inner["plate"]["wells"] = [{"path": well}]
    file.write_text(json.dumps(values))
    with pytest.raises(BadFile, match="leads nowhere inside the plate"):
        fields_of(plate, "plate")


def test_a_field_that_is_a_link_out_of_the_plate_is_refused(plate, tmp_path):
    import shutil

    shutil.move(plate / "A" / "1" / "1", tmp_path / "elsewhere")
    (plate / "A" / "1" / "1").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(BadFile, match="leads out"):
        fields_of(plate, "plate")


def test_other_folders_are_no_plates(plate, tmp_path):
    assert is_plate(plate)
    assert not is_plate(plate / "A" / "1")
    assert not is_plate(tmp_path)


TRAINING = """
dataset: {{data_dir: {data}, input_channels: [0], target_channels: [1], split_by_column: pos_idx,
  split_ratio: {{train: 0.7, val: 0.3, test: 0.0}}, model_task: regression}}
trainer: {{model_dir: {save}, batch_size: 4, max_epochs: 1, loss: mae_loss}}
network: {{class: UNet2D, num_filters_per_block: [4, 8], num_input_channels: 1, num_target_channels: 1}}
"""


def test_a_training_file_may_name_a_plate(plate, tmp_path, monkeypatch):
    from fieldmark.checkpoint import header_of
    from fieldmark.testing.worker import use_fake_worker
    from fieldmark.workbench.loose.fit import follow_plan, plan_fit

    use_fake_worker(monkeypatch)
    config = tmp_path / "config.yml"
    config.write_text(TRAINING.format(data=plate, save=tmp_path / "models"))
    plan = plan_fit(config, overrides=("train.crop=[16,16]", "train.crops_per_epoch=4"))
    list(follow_plan(plan))
    header = header_of(plan.place.now())
    assert header.outputs == ("image",)
    assert header.details["images"] == ["A/1/0", "A/1/1", "B/12/0"]
