"""Every registered family keeps the contract."""

from __future__ import annotations

from fieldmark.recipes import DescendConfig, FitRecipe, HeadConfig
from fieldmark.recipes.registry import FAMILIES
from fieldmark.testing.families import FamilyContract


class TestFlim(FamilyContract):
    recipe = FitRecipe(family="flim")


class TestFlimWithLogisticHead(FamilyContract):
    recipe = FitRecipe(family="flim", head=HeadConfig(kind="logistic"))


class TestAutoEncoder(FamilyContract):
    recipe = FitRecipe(
        family="autoencoder",
        net={"width": 8, "latent": 8},
        descend=DescendConfig(epochs=3, crops_per_epoch=16, batch_size=4, crop=48, save_every_steps=3),
        head=HeadConfig(kind="logistic"),
    )


def test_every_registered_family_is_under_contract():
    tested = {cls.recipe.family for cls in (TestFlim, TestFlimWithLogisticHead, TestAutoEncoder)}
    assert tested == {name for name, _ in FAMILIES}
