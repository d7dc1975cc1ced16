from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from fieldmark.errors import BadFile, BadRecipe
from fieldmark.recipes import FitRecipe, PredictRecipe, UNetConfig, validate
from fieldmark.recipes.dialects import microdl, microdl_predict, microdl_prepare
from fieldmark.recipes.dialects.keys import Group, dialect_of, grouped
from fieldmark.recipes.texts import parse_yaml
from fieldmark.recipes.unet import NumbersConfig

TRAINING = """
dataset:
  data_dir: 'tiles'
  model_task: regression
  height: 128
  width: 192
  input_channels: [2]
  mask_channels: [3]
  target_channels: [0]
  split_by_column: pos_idx
  split_ratio: {test: 0.1, train: 0.8, val: 0.1}
  random_seed: 5
  augmentations:
    zoom_range: [0.6, 1.6]
    rotate_range: 180
    intensity_jitter: [0.25, 0.5]
    noise_std: 0.5
    blur_range: [0, 10]
    shear_range: 10
network:
  class: UNetStackTo2D
  activation: {type: leakyrelu}
  batch_norm: True
  block_sequence: conv-activation-bn
  dropout: 0.1
  filter_size: 5
  final_activation: linear
  depth: 7
  pooling_type: average
  residual: False
  skip_merge_type: add
  upsampling: nearest_neighbor
  num_convs_per_block: 3
  num_filters_per_block: [8, 16, 32]
  num_input_channels: 1
  num_target_channels: 1
  data_format: channels_first
trainer:
  batch_size: 32
  callbacks:
    LearningRateScheduler: {base_lr: 0.00005, max_lr: 0.006, step_size: 3, gamma: 0.5, scale_mode: iterations}
    EarlyStopping: {mode: min, monitor: val_loss, patience: 7, verbose: True}
    ModelCheckpoint: {mode: min, monitor: val_loss, save_best_only: False}
    TensorBoard: {histogram_freq: 0}
  loss: ms_ssim_loss
  masked_loss: True
  max_epochs: 20
  metrics: pearson_corr
  model_dir: 'models'
  optimizer: {lr: 0.0002, name: Adam}
  num_workers: 32
verbose: 10
"""
PREPARATION = """
output_dir: 'out'
input_dir: 'in'
channel_ids: [0, 1, 2]
slice_ids: [10, 11]
pos_ids: -1
time_ids: [0]
num_workers: 12
flat_field: {estimate: True, block_size: 16, correct: True, flat_field_channels: [1]}
normalize: {normalize_im: 'slice', min_fraction: 0.25, normalize_channels: [True, False, True],
            hist_clip_limits: [1, 99]}
resize: {scale_factor: 0.5}
masks: {channels: [1], str_elem_radius: 3, mask_type: 'unimodal', mask_ext: '.png'}
tile: {tile_size: [128, 160], step_size: [128, 128], depths: [1, 1, 1], image_format: 'zyx', min_fraction: 0.2}
metadata: {order: 'cztp', name_parser: 'parse_sms_name'}
"""
INFERENCE = """
model_dir: 'models'
image_dir: 'images'
preprocess_dir: 'out'
dataset: {input_channels: [2], target_channels: [1], pos_ids: [0, 1], slice_ids: [3]}
images: {image_format: 'zyx', image_ext: '.tif', name_format: sms, pred_chan_name: 'pred'}
save_to_image_dir: False
data_split: val
save_figs: True
metrics: {metrics: [ssim, corr, r2], metrics_orientations: ['xy', 'xyz']}
tile: {tile_shape: [32, 300, 300], num_overlap: [4, 32, 32], overlap_operation: any}
"""
PARSED = {text: parse_yaml(text) for text in (TRAINING, PREPARATION, INFERENCE)}
BESIDE = Path("/configs")


def values(text: str, change: dict[str, Any] | None = None) -> dict[str, Any]:
    found = copy.deepcopy(PARSED[text])
    for path, value in (change or {}).items():
        *groups, key = path.split(".")
        place = found
        for group in groups:
            place = place.setdefault(group, {})
        place[key] = value
    return found


def fit(change: dict[str, Any] | None = None, **options: Any):
    return microdl.fit_of(values(TRAINING, change), beside=BESIDE, source="config.yml", **options)


def prepare(change: dict[str, Any] | None = None):
    return microdl_prepare.prepare_of(values(PREPARATION, change), beside=BESIDE, source="config.yml")


def predict(change: dict[str, Any] | None = None):
    return microdl_predict.predict_of(values(INFERENCE, change), beside=BESIDE, source="config.yml")


def test_a_structure_that_is_said_to_be_uniform_is_taken_where_the_example_files_say_it():
    within = prepare({"normalize.uniform_struct": True})
    assert [note for note in within.notes if "normalize.uniform_struct" in note]
    assert within.recipe == prepare().recipe


def test_files_are_told_by_their_keys():
    assert [dialect_of(parse_yaml(text)) for text in (TRAINING, PREPARATION, INFERENCE)] == [
        "microdl-fit",
        "microdl-prepare",
        "microdl-predict",
    ]
    assert dialect_of({"family": "unet", "train": {"epochs": 3}, "data": {}}) is None
    assert dialect_of({}) is None


@pytest.mark.parametrize(("there", "place"), [((0, 1, 2, 3), 3), ((1, 2, 3), 2)])
def test_a_mask_channel_that_frames_have_is_meant_before_computed_masks(there, place):
    asked = {"dataset.input_channels": [1], "dataset.target_channels": [2], "network.num_input_channels": 1}
    prepared = prepare(
        {"flat_field": None, "channel_ids": -1, "normalize.normalize_channels": [True], "masks.channels": [1]}
    )
    mask = fit(asked, prepared=prepared, channels=there).recipe["data"]["mask"]
    assert (mask["channel"], mask.get("method", "none")) == (place, "none")
    computed = fit(asked, prepared=prepared, channels=there[:-1]).recipe["data"]["mask"]
    assert (computed["channel"], computed["method"]) == (there.index(1), "unimodal")


def test_fractions_of_what_teaches_are_multiplied():
    found = fit({"dataset.train_fraction": 0.5, "trainer.train_fraction": 0.4})
    assert validate(FitRecipe, found.recipe).train.crops_share == pytest.approx(0.2)


@pytest.mark.parametrize(("lit", "target", "told"), [([1], 1, True), ([], 1, True), ([1], 2, False)])
def test_the_light_of_a_target_is_told_not_to_be_corrected(lit, target, told):
    prepared = prepare({"flat_field.flat_field_channels": lit})
    notes = fit({"dataset.target_channels": [target]}, prepared=prepared, channels=(0, 1, 2)).notes
    assert any(f"dataset.target_channels: [{target}] teach in their own light" in note for note in notes) == told


def test_a_training_file_becomes_a_recipe():
    found = fit()
    recipe = validate(FitRecipe, found.recipe)
    net = validate(UNetConfig, recipe.net)
    assert (net.dims, net.gives, net.depth, net.filters) == ("2.5", "slice", 7, (8, 16, 32))
    assert (net.convs_per_block, net.kernel_size, net.block) == (3, 5, "conv-activation-norm")
    assert (net.activation, net.norm, net.residual, net.skip) == ("leakyrelu", "batch", False, "add")
    assert (net.pool, net.up, net.dropout, net.final_activation) == ("average", "nearest", 0.1, "linear")
    data = recipe.data
    assert (data.inputs, data.target.kind, data.target.channels) == ((2,), "image", (0,))
    assert data.mask is not None
    assert data.mask.channel == 3
    assert (data.split.by, data.split.train, data.split.validation, data.split.test) == ("image", 0.8, 0.1, 0.1)
    train = recipe.train
    assert (train.epochs, train.batch_size, train.crop, recipe.seed) == (20, 32, (128, 192), 5)
    assert train.loss.terms == {"ms-ssim": 1}
    assert (train.schedule, train.lr, train.cycle.max_lr, train.cycle.half_epochs) == ("cyclic", 5e-5, 6e-3, 3)
    assert (train.cycle.gamma, train.cycle.gamma_by) == (0.5, "iterations")
    assert train.early is not None
    assert (train.early.patience, train.early.monitor, train.keep) == (7, "val_loss", "last")
    assert train.loggers == ("tensorboard",)
    assert (found.images, found.save) == ((BESIDE / "tiles",), BESIDE / "models")


def test_augmentation_is_theirs_with_one_sample_in_six_unchanged():
    augment = validate(FitRecipe, fit().recipe).train.augment
    assert (augment.zoom, augment.rotate, augment.shear, augment.blur) == ((0.6, 1.6), 180, 10, (0, 10))
    assert (augment.intensity_offset, augment.intensity_scale, augment.noise) == (0.25, 0.5, 0.5)
    assert augment.share == pytest.approx(5 / 6)
    flips = validate(FitRecipe, fit({"dataset.augmentations": True}).recipe).train.augment
    assert (flips.flip, flips.rot90, flips.rotate) == (0.5, True, 0)
    none = validate(FitRecipe, fit({"dataset.augmentations": None}).recipe).train.augment
    assert (none.flip, none.rot90) == (0, False)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("UNet2D", {"dims": "2"}),
        ("UNet3D", {"dims": "3"}),
        ("UNetStackToStack", {"dims": "2.5", "gives": "stack"}),
        ("Image2DToVectorNet", {"dims": "2", "out_channels": 0}),
        ("Image3DToVectorNet", {"dims": "3", "out_channels": 0}),
    ],
)
def test_classes_of_networks(name, wanted):
    net = fit({"network.class": name, "network.depth": None}).recipe["net"]
    assert {key: net[key] for key in wanted} == wanted


def test_networks_to_vectors_learn_numbers_of_a_table():
    change = {"network.class": "Image2DToVectorNet", "network.depth": None, "network.regression_length": 3}
    found = fit(change | {"network.dropout_dense": 0.4, "network.height": 96, "network.width": 64})
    recipe = validate(FitRecipe, found.recipe)
    assert (recipe.family, recipe.data.target.kind) == ("image-to-numbers", "numbers")
    net = validate(NumbersConfig, recipe.net)
    assert (net.out_channels, net.dropout, net.size) == (3, 0.4, (96, 64))
    assert any("data.target.table" in note for note in found.notes)
    with pytest.raises(BadRecipe, match=r"network\.final_activation"):
        fit(change | {"network.final_activation": "sigmoid"})


def test_segmentation_learns_label_maps_and_a_plain_rate_stays():
    found = fit({"dataset.model_task": "segmentation", "trainer.callbacks": {}, "trainer.loss": "dice_coef_loss"})
    recipe = validate(FitRecipe, found.recipe)
    assert (recipe.data.target.kind, recipe.train.loss.terms) == ("labels", {"dice": 1})
    assert (recipe.train.schedule, recipe.train.lr, recipe.train.early) == ("constant", 2e-4, None)


@pytest.mark.parametrize(("slices", "missing"), [([0, 2, 4], 1), ([2, 3, 6], 4), ([3, 4, 5], None), (-1, None)])
def test_stacks_of_slices_that_are_no_neighbors_are_named(slices, missing):
    prepared = prepare({"slice_ids": slices})
    notes = [note for note in fit(prepared=prepared).notes if "count as neighbors" in note]
    assert [f"without slice {missing};" in note for note in notes] == ([True] if missing is not None else [])
    assert not any("neighbors" in note for note in fit({"network.class": "UNet2D"}, prepared=prepared).notes)


def test_a_loss_of_segmentation_alone_says_what_is_learned():
    """As microDL's own example for the finder has it."""
    found = fit({"dataset.model_task": None, "trainer.loss": "dice_coef_loss"})
    assert validate(FitRecipe, found.recipe).data.target.kind == "labels"
    assert any(note.startswith("dataset.model_task: is segmentation") for note in found.notes)
    assert validate(FitRecipe, fit({"dataset.model_task": None}).recipe).data.target.kind == "image"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trainer.loss": "dice_coef_loss"}, "for segmentation, and dataset.model_task is regression. Use .*mae_loss"),
        (
            {"dataset.model_task": "segmentation"},
            "for regression, and dataset.model_task is seg.* Use .*dice_coef_loss",
        ),
        ({"network.class": "Image2DToVectorNet", "trainer.loss": "binary_crossentropy"}, "network.class is Image2D"),
    ],
)
def test_a_loss_for_another_task_is_refused_by_its_key(change, words):
    with pytest.raises(BadRecipe, match=rf"trainer\.loss: .*{words}"):
        fit(change)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("network.filter_size", 4), ("network.depth", 4), ("network.dropout", 1.5), ("network.dropout_dense", 1.0),
        ("dataset.augmentations.zoom_range", [2, 1]), ("dataset.augmentations.rotate_range", 400),
        ("dataset.augmentations.shear_range", 80), ("dataset.augmentations.blur_range", [0, 100]),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_the_key_that_was_typed(key, value):
    with pytest.raises(BadRecipe, match=rf"{key.replace('.', '[.]')}"):
        fit({key: value})


def test_the_finder_keeps_its_own_bounds():
    finder = {"lr_find": True, "max_epochs": 3, "fig_fname": "lr.png"}
    found = fit({"trainer.callbacks": {"LearningRateScheduler": finder}}).find
    wanted = {"base_lr": 1e-4, "max_lr": 0.1, "epochs": 3, "scale": "linear", "figure": BESIDE / "lr.png"}
    assert found == wanted
    assert fit().find is None


def test_a_known_preparation_goes_into_the_fit():
    prepared = prepare()
    found = fit({"dataset.height": None, "dataset.width": None}, prepared=prepared)
    recipe = validate(FitRecipe, found.recipe)
    assert recipe.prepare.normalize is not None
    assert (recipe.prepare.normalize.scheme, recipe.train.crop, recipe.train.min_fraction) == ("slice", (128, 160), 0.2)
    assert recipe.data.mask is not None
    assert (recipe.data.mask.method, recipe.data.mask.channel) == ("unimodal", 1)
    assert found.frames == prepared.frames
    alone = validate(FitRecipe, fit().recipe)
    assert alone.prepare.normalize is not None
    assert alone.prepare.normalize.statistic == "median-iqr"
    assert any("preprocessing_info.json" in note for note in fit().notes)


def test_a_preprocessing_file_becomes_a_preparation():
    found = prepare()
    recipe = validate(FitRecipe, found.recipe).prepare
    assert recipe.flat_field is not None
    assert (recipe.flat_field.channels, recipe.flat_field.block, recipe.resize) == ((1,), 16, 0.5)
    assert recipe.normalize is not None
    assert (recipe.normalize.scheme, recipe.normalize.statistic) == ("slice", "median-iqr")
    assert (recipe.normalize.channels, recipe.normalize.clip, recipe.normalize.min_fraction) == ((0, 2), (1, 99), 0.25)
    assert recipe.foreground is not None
    assert (recipe.foreground.method, recipe.foreground.radius, recipe.foreground.channels) == ("unimodal", 3, (1,))
    assert (found.images, found.out) == (BESIDE / "in", BESIDE / "out")
    assert (found.frames.channels, found.frames.positions, found.frames.slices) == ((0, 1, 2), (), (10, 11))


def test_preparations_of_other_kinds():
    assert prepare({"normalize": {"normalize_im": "stack"}}).recipe["prepare"]["normalize"]["statistic"] == "mean-std"
    for none in ("None", None):
        assert prepare({"normalize.normalize_im": none}).recipe["prepare"]["normalize"] == {"scheme": "none"}
    borders = prepare({"masks.mask_type": "borders_weight_loss_map"})
    assert borders.recipe["prepare"]["foreground"] is None
    assert borders.mask == {"method": "borders", "channel": 1}
    own = prepare({"masks.mask_dir": "masks"})
    assert own.mask == {"folder": "/configs/masks"}
    file = prepare({"flat_field": {"estimate": False, "correct": True, "flat_field_dir": "ff"}})
    assert file.recipe["prepare"]["flat_field"] == {"channels": [], "method": "file", "folder": "/configs/ff"}
    assert prepare({"flat_field.correct": False}).recipe["prepare"]["flat_field"] is None
    assert prepare().recipe["prepare"]["flat_field"]["method"] == "blocks"
    ours = prepare({"flat_field.method": "basic", "flat_field.block_size": None})
    assert ours.recipe["prepare"]["flat_field"] == {"channels": [1], "method": "basic"}
    assert not [note for note in ours.notes if note.startswith("flat_field")]


def test_what_decides_nothing_beside_basic_is_said():
    asked = prepare({"flat_field": {"method": "basic", "block_size": 8, "flat_field_dir": "ff"}})
    assert asked.recipe["prepare"]["flat_field"]["method"] == "basic"
    told = " ".join(asked.notes)
    assert "flat_field.flat_field_dir: what is estimated is kept" in told
    assert "flat_field.block_size: BaSiC has no blocks" in told
    assert "block_size" not in " ".join(prepare().notes)


def test_volumes_are_resized_and_parted():
    """By the order of the published file, [z, y, x]; of later versions, [y, x, z]; a factor alone, in 2-D and 3-D."""

    def factors(said: object, **more: object):
        return prepare({"resize": {"scale_factor": said, **more}}).recipe["prepare"]["resize"]

    assert factors([1, 0.5, 0.5]) == factors([0.5]) == 0.5
    assert factors([4.85, 1.0, 1.0]) == factors([1.0, 1.0, 4.85]) == [4.85, 1, 1]
    assert factors([0.5, 0.25]) == [1, 0.5, 0.25]
    assert factors(2.0, resize_3d=True) == [2, 2, 2]
    assert factors(1) is None
    found = prepare(
        {
            "resize": {"scale_factor": [4.8, 1.0, 1.0], "num_slices_subvolume": 10, "resize_3d": True},
            "tile": {"tile_size": [128, 128, 32], "step_size": [96, 96, 24], "tile_3d": True},
        }
    )
    assert found.tiles is not None
    assert found.tiles["subvolume"] == (48, 43)  # 10 slices, and 9 from one to the next
    assert found.recipe["train"]["depth"] == 32
    assert any("num_slices_subvolume: tiles are listed within sub-volumes" in note for note in found.notes)
    assert found.recipe["prepare"]["foreground"]["by"] == found.mask["by"] == "volume"
    assert prepare().recipe["prepare"]["foreground"]["by"] == "slice"
    crops = prepare({"resize": {"num_slices_subvolume": 6, "overlap_slices": 2}})
    assert (crops.recipe["train"]["depth"], crops.tiles["subvolume"]) == (6, None)


def test_whole_slices_are_measured_where_stacks_are_normalized():
    """microDL's `stack` is the mean and standard deviation of each image, whatever its foreground."""
    found = prepare({"normalize.normalize_im": "stack"})
    assert found.recipe["prepare"]["normalize"]["min_fraction"] == 0
    assert any(note.startswith("normalize.min_fraction: ") for note in found.notes)
    assert not any(note.startswith("normalize.min_fraction") for note in prepare().notes)


def test_one_number_is_that_of_rows_and_columns():
    assert prepare({"tile.tile_size": 128, "tile.step_size": 64}) == prepare(
        {"tile.tile_size": [128, 128], "tile.step_size": [64, 64]}
    )
    assert fit({"network.filter_size": [3, 3, 3]}).recipe == fit({"network.filter_size": 3}).recipe


@pytest.mark.parametrize(
    ("read", "change", "words"),
    [
        (fit, {"network.filter_size": [3, 5]}, "network.filter_size: filters are as long along each axis"),
        (fit, {"network.num_filters_per_block": [16]}, "network.num_filters_per_block: "),
        (
            fit,
            {"dataset.augmentations": {"zoom_range": 1.1}},
            "dataset.augmentations.zoom_range: Input should be a list, such as [1, 2]",
        ),
        (prepare, {"flat_field": True}, "flat_field: Input should be a group of keys and values (found True)"),
        (predict, {"image_dir": ""}, "image_dir: "),
    ],
)
def test_lists_and_values_in_each_others_place_are_named(read, change, words):
    with pytest.raises(BadRecipe, match=re.escape(f"config.yml: {words}")):
        read(change)


@pytest.mark.parametrize(
    ("axes", "tile", "wanted"),
    [
        ("zyx", {"num_overlap": [4, 32, 32], "tile_shape": [8, 256, 256]}, (32, 4, 256)),
        ("xyz", {"num_overlap": [32, 32, 4], "tile_shape": [256, 256, 8]}, (32, 4, 256)),
        ("xyz", {"num_overlap": [32, 32], "tile_shape": [256, 256]}, (32, None, 256)),
        ("zyx", {"num_overlap": 32}, (32, None, 512)),
        ("zyx", {"num_overlap": 2, "num_slices": 8}, (None, 2, 512)),  # blocks of slices share slices
    ],
)
def test_overlaps_are_those_of_their_axes(axes, tile, wanted):
    recipe = validate(PredictRecipe, predict({"images.image_format": axes, "tile": tile}).recipe)
    assert (recipe.overlap, recipe.overlap_z, recipe.tile) == wanted


def test_an_inference_file_becomes_a_prediction():
    found = predict()
    recipe = validate(PredictRecipe, found.recipe)
    assert (found.model, found.images, found.out) == (
        BESIDE / "models",
        BESIDE / "images",
        BESIDE / "models/predictions",
    )
    assert (found.form, recipe.figures, recipe.blend, recipe.tile) == ("tiff", True, "any", 320)
    assert (recipe.overlap, recipe.overlap_z) == (32, 4)
    assert (found.frames.positions, found.frames.slices, found.targets) == ((0, 1), (3,), (1,))
    assert (found.split, found.metrics, found.orientations) == ("val", ("ssim", "corr", "r2"), ("xy", "xyz"))
    old = microdl_predict.predict_of(
        {"train_config": "c.yml", "model_fname": "m/Model", "image_dir": "i", "metrics": ["r2"],
         "metrics_orientations": ["xz"], "image_params_dict": {"im_ext": ".npy", "image_ext": ".npy"},
         "vol_inf_dict": {"num_overlap": [0, 32, 32]}},
        beside=BESIDE,
    )  # fmt: skip
    assert (old.form, old.orientations, old.recipe["overlap"], old.model) == ("npy", ("xz",), 32, BESIDE / "m")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trainer.los": "mae_loss"}, ["trainer.los", "'loss'"]),
        ({"network.clas": "UNet2D"}, ["network.clas", "'class'"]),
        ({"network.class": "VQNet"}, ["network.class", "VQ-VAE"]),
        ({"network.padding": "valid"}, ["network.padding"]),
        ({"network.num_input_channels": 2}, ["num_input_channels", "says 2", "names 1"]),
        ({"trainer.loss": "mse_los"}, ["trainer.loss", "mse_loss"]),
        ({"trainer.loss": "latent_loss"}, ["trainer.loss", "VQ-VAE"]),
        ({"trainer.callbacks.EarlyStopping.monitor": "val_los"}, ["EarlyStopping.monitor", "val_loss"]),
        (
            {"trainer.callbacks.EarlyStopping.monitor": "val_dice_coef"},
            ["EarlyStopping.monitor", "images are learned", "val_pearson_corr"],
        ),
        (
            {
                "trainer.callbacks.EarlyStopping.monitor": "val_pearson_corr",
                "dataset.model_task": "segmentation",
                "trainer.loss": "dice_coef_loss",
            },
            ["EarlyStopping.monitor", "labels are learned", "val_dice_coef"],
        ),
        ({"trainer.callbacks.EarlyStoping": {}}, ["callbacks.EarlyStoping", "EarlyStopping"]),
        ({"trainer.optimizer.name": "lion"}, ["optimizer.name", "lion"]),
        ({"dataset.split_ratio": {"train": 0.5, "val": 0.1}}, ["split_ratio", "0.6"]),
        ({"dataset.split_by_column": "channel_idx"}, ["split_by_column", "channel_idx", "pos_idx"]),
        ({"dataset.mask_channels": []}, ["mask_channels", "masked_loss"]),
        ({"dataset.augmentations": {"zoom": [1, 2]}}, ["augmentations.zoom", "zoom_range"]),
    ],
)
def test_what_is_wrong_in_a_training_file_is_named_by_its_path(change, words):
    with pytest.raises(BadRecipe) as error:
        fit(change)
    assert all(word in str(error.value) for word in ["config.yml", *words])


def test_what_is_wrong_in_the_others_is_named_too():
    for change, words in (
        ({"normalize.normalize_im": "datset"}, ["normalize_im", "dataset"]),
        ({"masks.mask_type": "otsy"}, ["mask_type", "otsu"]),
        ({"normalize.normalize_channels": [True, False]}, ["normalize_channels", "2 times", "3 channels"]),
        ({"resize.scale_factor": [4.8, 1, 2]}, ["scale_factor", "which factor is that of z"]),
        ({"resize.num_slices_subvolume": 1}, ["num_slices_subvolume", "cannot share 1"]),
        ({"tiles": {}}, ["tiles", "'tile'"]),
    ):
        with pytest.raises(BadRecipe) as error:
            prepare(change)
        assert all(word in str(error.value) for word in words)
    for change, words in (
        ({"metrics.metrics": ["psnr"]}, ["metrics.metrics", "psnr"]),
        ({"metrics.metrics_orientations": ["zx"]}, ["metrics_orientations", "zx"]),
        ({"images.image_ext": ".jpg"}, ["image_ext", ".jpg"]),
        ({"modl_dir": "x"}, ["modl_dir", "model_dir"]),
    ):
        with pytest.raises(BadRecipe) as error:
            predict(change)
        assert all(word in str(error.value) for word in words)
    with pytest.raises(BadFile, match=r"Model_2019\.hdf5.*Keras.*Fit the model again"):
        predict({"model_fname": "Model_2019.hdf5"})


def leaves(model: type[BaseModel], where: str = "") -> list[tuple[str, type[BaseModel], str]]:
    """Every key of a file: its path, its group and its name there."""
    found = []
    for name, field in model.model_fields.items():
        inner = [one for one in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(one, type)]
        groups = [one for one in inner if issubclass(one, Group)]
        path = f"{where}{field.alias or name}"
        found += leaves(groups[0], f"{path}.") if groups else [(path, model, name)]
    return found


OTHERS: list[Any] = [
    True, False, 2, 3, 0, 1.5, 0.5, 0.25, [0.5, 2.0], [1, 1], [4], [5, 6], [1, 50], "x", "add", "sgd", "mse_loss",
    "elu", "none", "transposed", "average", "conv-bn-activation", "slice_idx", "cycle", "max", "val_pearson_corr",
    "otsu", "UNet2D", "volume", "from_file", "any", "all", "segmentation", ".npy", ["mae"], ["xz"], "valid",
    "sigmoid", "concat", "zyx", "xyz", "channels_last",
    {"train": 1.0},
    [True, True, True], [256, 256, 16], [300, 400], [2.0, 3.0], "target", "zarr", "mean",
]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "read", "text"),
    [
        (microdl.TrainingFile, fit, TRAINING),
        (microdl_prepare.PreparationFile, prepare, PREPARATION),
        (microdl_predict.InferenceFile, predict, INFERENCE),
    ],
)
def test_every_key_acts_or_is_named_or_is_refused(model, read, text):
    plain = read()
    for path, group, name in leaves(model):
        assert any(decides(read, plain, path, name in group.ACCEPTED, other) for other in OTHERS), path


def decides(read, plain, path: str, must_be_named: bool, other: Any) -> bool:
    """Whether another value of a key changes what is read, is named, or is refused for what it means."""
    try:
        found = read({path: copy.deepcopy(other)})
    except (BadRecipe, BadFile) as error:
        return (path.rpartition(".")[0] or path) in str(error) and "Input should" not in str(error)
    named = any(f"{path}.".startswith(note.partition(": ")[0] + ".") for note in found.notes)
    assert named or not must_be_named, f"{path}: {other!r} is taken and not named"
    return named or found != plain


def test_notes_of_one_reason_are_one():
    assert grouped(["a: is x.", "b: is y.", "c: is x."]) == ["a, c: is x.", "b: is y."]


@pytest.mark.parametrize(("name", "share"), [("dssim_loss", 0.8), ("ms_ssim_loss", 0.84)])
def test_losses_with_a_share_of_absolute_error_weigh_it_once(name, share):
    """Two flat images that differ little for their range are alike: what is left is the absolute error, of 1 here."""
    import torch

    from fieldmark.learn.losses import build_loss

    config = validate(FitRecipe, fit({"trainer.loss": name}).recipe).train.loss
    loss = build_loss(config, classes=False, span=1e3)
    truth = torch.zeros(1, 1, 48, 48)
    assert float(loss(truth + 1, truth, torch.ones_like(truth))) == pytest.approx(1 - share, abs=0.01)


def changed(text: str, **groups: dict[str, Any]) -> dict[str, Any]:
    """The values of a file with keys set: `trainer={"model_dir": ""}`."""
    values = copy.deepcopy(parse_yaml(text))
    for name, keys in groups.items():
        values.setdefault(name, {}).update(keys)
    return values


@pytest.mark.parametrize(("group", "key"), [("dataset", "data_dir"), ("trainer", "model_dir")])
def test_an_empty_path_is_refused_by_its_key(group, key):
    with pytest.raises(BadRecipe, match=rf"{group}\.{key}: "):
        microdl.fit_of(changed(TRAINING, **{group: {key: ""}}), beside=Path("/configs"))


def test_cycles_that_run_downwards_are_refused():
    rates = {"LearningRateScheduler": {"base_lr": 0.01, "max_lr": 0.001}}
    with pytest.raises(BadRecipe, match=r"LearningRateScheduler: max_lr 0\.001 must be more than base_lr 0\.01"):
        microdl.fit_of(changed(TRAINING, trainer={"callbacks": rates}), beside=Path("/configs"))


@pytest.mark.parametrize(
    ("groups", "named"),
    [
        ({"dataset": {"label_weights": [1, 2]}, "trainer": {"masked_loss": False}}, "dataset.label_weights"),
        ({"network": {"final_activation": "softmax"}}, "network.final_activation"),
        (
            {"trainer": {"callbacks": {"LearningRateScheduler": {"lr": 0.001, "gamma": 0.5}}}},
            "trainer.callbacks.LearningRateScheduler.gamma",
        ),
    ],
)
def test_what_decides_nothing_beside_other_keys_is_named(groups, named):
    notes = microdl.fit_of(changed(TRAINING, **groups), beside=Path("/configs")).notes
    assert [note for note in notes if note.startswith(f"{named}: ")]


@pytest.mark.parametrize(
    ("images", "form"),
    [({}, "png"), ({"im_ext": ".npy"}, "npy"), ({"im_ext": ".npy", "image_ext": ".tif"}, "tiff")],
)
def test_the_older_word_for_the_format_counts_where_the_newer_is_missing(images, form):
    values = {"model_dir": "model", "image_dir": "frames", "images": images}
    assert microdl_predict.predict_of(values, beside=Path("/configs")).form == form
