"""Names of weight files of other systems, told by their suffix."""

from __future__ import annotations

from pathlib import PurePath

from fieldmark.errors import BadFile

KERAS = (".h5", ".hdf5", ".keras")


def refuse_keras(name: str) -> None:
    """Raise BadFile for a weight file of Keras."""
    if PurePath(name).suffix.lower() in KERAS:
        raise BadFile(
            name,
            "holds weights of Keras, whose networks are built otherwise, so they cannot be taken. "
            "Fit the model again with the same config: fieldmark fit --config FILE.",
        )
