"""Every registered family keeps the contract."""

from __future__ import annotations

from fieldmark.recipes import ClassifyConfig, DescendConfig, FitRecipe, HeadConfig, ImageHeadConfig, TrainConfig
from fieldmark.recipes.prepare import FlatFieldConfig, NormalizeConfig, PrepareConfig
from fieldmark.recipes.registry import FAMILIES
from fieldmark.testing.families import FamilyContract


def unet(**net: object) -> FitRecipe:
    """A U-Net that learns from strokes."""
    train = TrainConfig(
        epochs=2, batch_size=4, crop=(32, 32), depth=2, crops_per_epoch=72, lr=2e-2, save_every_steps=11
    )
    return FitRecipe(family="unet", net={"filters": (4, 8), **net}, train=train)


class TestUNet(FamilyContract):
    recipe = unet()


class TestUNetOfEveryOtherSetting(FamilyContract):
    recipe = unet(
        filters=(8, 12),
        residual=True,
        skip="add",
        pool="conv",
        up="transposed",
        norm="layer",
        dropout=0.1,
        activation="elu",
    )


class TestUNetWithStatisticsOfSpace(FamilyContract):
    recipe = unet(norm="group", pool="average", up="nearest", block="conv-activation-norm")


class TestUNetOfStacks(FamilyContract):
    recipe = unet(dims="2.5", depth=3)


class TestUNetOfVolumes(FamilyContract):
    recipe = unet(dims="3")


class TestUNetOnPreparedSlices(FamilyContract):
    recipe = unet().model_copy(
        update={
            "prepare": PrepareConfig(
                flat_field=FlatFieldConfig(block=16), normalize=NormalizeConfig(scheme="slice", clip=(1, 99))
            )
        }
    )


class TestFlim(FamilyContract):
    recipe = FitRecipe(family="flim")


class TestFlimWithLogisticHead(FamilyContract):
    recipe = FitRecipe(family="flim", head=HeadConfig(kind="logistic"))


SMALL_FLIM = {"branches": [{"layers": [{"kernel_size": 5, "out_channels": 16, "pool": "max"}]}], "scales": [1.0, 2.0]}


class TestFlimWithDenseImageHead(FamilyContract):
    recipe = FitRecipe(
        family="flim",
        net=SMALL_FLIM,
        head=HeadConfig(kind="logistic"),
        image_head=ImageHeadConfig(
            kind="dense", descend=ClassifyConfig(epochs=2, batch_size=1, save_every_steps=1, only_classifier=False)
        ),
    )


class TestFlimWithSvm(FamilyContract):
    recipe = FitRecipe(
        family="flim",
        net=SMALL_FLIM,
        head=HeadConfig(kind="logistic"),
        image_head=ImageHeadConfig(kind="svm", vector="flatten", size=(40, 50)),
    )


FLIM_LAYERS = {
    "norm1": {"operation": "m_norm2d"},
    "conv1": {
        "operation": "conv2d",
        "params": {
            "kernel_size": 5,
            "padding": 2,
            "out_channels": 12,
            "number_of_kernels_per_marker": 8,
            "activation": "relu",
            "pool": {"operation": "max_pool2d", "params": {"kernel_size": 3, "stride": 2, "padding": 1}},
        },
    },
    "norm2": {"operation": "m_norm2d"},
    "conv2": {
        "operation": "conv2d",
        "params": {"kernel_size": 3, "padding": 1, "out_channels": 16, "number_of_kernels_per_marker": 8},
    },
    "relu2": {"operation": "relu"},
}


class TestFlimNet(FamilyContract):
    recipe = FitRecipe(
        family="flim-net",
        net={"arch": {"features": {"type": "sequential", "layers": FLIM_LAYERS}}},
        head=HeadConfig(kind="logistic"),
    )


class TestFlimNetIn3D(FamilyContract):
    recipe = FitRecipe(
        family="flim-net",
        net={
            "arch": {
                "features": {
                    "type": "sequential",
                    "layers": {
                        "norm1": {"operation": "m_norm3d"},
                        "conv1": {
                            "operation": "conv3d",
                            "params": {
                                "kernel_size": 3,
                                "padding": 1,
                                "out_channels": 8,
                                "number_of_kernels_per_marker": 4,
                                "activation": "relu",
                                "pool": {"operation": "max_pool3d", "params": {"kernel_size": [1, 2, 2]}},
                            },
                        },
                    },
                }
            }
        },
        head=HeadConfig(kind="logistic"),
    )


class TestAutoEncoder(FamilyContract):
    recipe = FitRecipe(
        family="autoencoder",
        net={"width": 8, "latent": 8},
        descend=DescendConfig(epochs=3, crops_per_epoch=16, batch_size=4, crop=48, save_every_steps=3),
        head=HeadConfig(kind="logistic"),
    )


CONVERTED = {"smp-unet"}
"""Families that only hold weights which other programs trained: `tests/models/test_old.py`."""


NUMBERS = {"image-to-numbers"}
"""Families that answer whole images alone, from a table: `tests/learn/test_numbers.py`."""


def test_every_registered_family_is_under_contract():
    tested = {cls.recipe.family for cls in (TestFlim, TestFlimNet, TestAutoEncoder, TestUNet)}
    assert tested | CONVERTED | NUMBERS == {name for name, _ in FAMILIES}
