"""The model families, as strings: reading this imports no torch. A family is one file and one line here."""

from __future__ import annotations

from fieldmark.core.registry import Entry, Registry

FAMILIES = Registry(
    "model family",
    {
        "flim": Entry(
            "fieldmark.models.flim:FlimNet",
            "Encoder whose kernels come from the strokes themselves, without backpropagation",
            config="fieldmark.recipes.families:FlimConfig",
        ),
        "flim-net": Entry(
            "fieldmark.models.flim_graph:FlimGraphNet",
            "FLIM network of an architecture file: every operation, branches, 2-D and 3-D",
            config="fieldmark.recipes.flim_arch:FlimGraphConfig",
        ),
        "unet": Entry(
            "fieldmark.models.unet:UNet",
            "U-Net in 2-D, 2.5-D or 3-D: classes from strokes or label maps, images from images",
            config="fieldmark.recipes.unet:UNetConfig",
        ),
        "image-to-numbers": Entry(
            "fieldmark.models.numbers:NumbersNet",
            "Numbers for whole images, in 2-D or 3-D, from a table of them",
            config="fieldmark.recipes.unet:NumbersConfig",
        ),
        "autoencoder": Entry(
            "fieldmark.models.autoencoder:AutoEncoder",
            "Convolutional autoencoder: learns from images alone, then a pixel head from strokes",
            config="fieldmark.recipes.families:AutoEncoderConfig",
        ),
        "smp-unet": Entry(
            "fieldmark.models.old:OldUNet",
            "U-Net of segmentation-models-pytorch, for its old checkpoints",
            config="fieldmark.recipes.old:OldUNetConfig",
            needs="backbones",
        ),
    },
)
