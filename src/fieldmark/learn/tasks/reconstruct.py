"""Learn to paint the image again from its embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.nn.functional import mse_loss

from fieldmark.learn.crops import CropBatches
from fieldmark.learn.descend import Descend
from fieldmark.learn.optimizers import descend, make_optimizer

if TYPE_CHECKING:
    import numpy as np
    import torch
    from lightning_fabric import Fabric
    from torch import Tensor

    from fieldmark.learn.samples import Samples
    from fieldmark.models.base import Net
    from fieldmark.recipes import DescendConfig, FitRecipe


def reconstruct(net: Net, samples: Samples, recipe: FitRecipe) -> Descend:
    """The phase that fits an autoencoder on crops of all images."""
    config = recipe.descend
    batches = CropBatches(samples, config, stride=net.stride, seed=recipe.seed)
    return Descend("reconstruct", Reconstruct(net, config), batches, config)


class Reconstruct:
    """Mean squared error between prepared pixels and what the decoder paints."""

    tells = ("loss",)

    def __init__(self, net: Net, config: DescendConfig) -> None:
        self.net = net
        self.clip = config.clip_norm
        self.optimizer = make_optimizer(net.parameters(), config)
        self._module: Any = net
        self._stepper: Any = self.optimizer

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [self.optimizer]

    def set_up(self, engine: Fabric) -> None:
        self._module, self._stepper = engine.setup(self.net, self.optimizer)

    def on_epoch(self, epoch: int) -> None:
        pass

    def step(self, engine: Fabric, batch: Tensor) -> dict[str, float]:
        batch = engine.to_device(batch)
        loss = mse_loss(self._module(batch), batch)
        descend(engine, self._module, self._stepper, loss, self.clip)
        return {"loss": float(loss.detach())}

    def state(self) -> dict[str, np.ndarray]:
        return {}

    def load_state(self, arrays: dict[str, np.ndarray]) -> None:
        pass
