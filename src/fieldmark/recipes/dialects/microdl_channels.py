"""Channels by the numbers of their frames (`im_c003_...`), as places among the channels of the images made of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldmark.recipes.dialects.keys import refuse


@dataclass(frozen=True, slots=True)
class Channels:
    """The numbers that a folder's frames have.

    Args:
        numbers: In order; empty where nobody has looked: then numbers are places.
        source: The file that names channels, for errors.
    """

    numbers: tuple[int, ...] = ()
    source: object = ""

    def has(self, number: int) -> bool:
        """Whether there are frames of a channel; nobody knows where nobody has looked."""
        return number in self.numbers

    def place(self, number: int, key: str) -> int:
        """Where a channel lies in the images. Raises BadRecipe, by the key, where no frame has its number."""
        if self.numbers and number not in self.numbers:
            there = ", ".join(map(str, self.numbers))
            raise refuse(self.source, key, f"names channel {number}, and the frames have {there}. Correct it.")
        return self.numbers.index(number) if self.numbers else number

    def places(self, numbers: Iterable[int], key: str) -> list[int]:
        """The same for several."""
        return [self.place(number, key) for number in numbers]


_PREPARED = (
    ("flat_field", "flat_field.flat_field_channels"),
    ("normalize", "normalize.normalize_channels"),
    ("foreground", "masks.channels"),
)


def placed_preparation(prepare: dict[str, Any], channels: Channels) -> dict[str, Any]:
    """The steps of a preprocessing file, which name channels by numbers, with places."""
    made = dict(prepare)
    for step, key in _PREPARED:
        if made.get(step):
            made[step] = made[step] | {"channels": channels.places(made[step].get("channels", ()), key)}
    return made


def placed_mask(mask: dict[str, Any], channels: Channels) -> dict[str, Any]:
    """A mask of a preprocessing file, with the place of its channel."""
    number = mask.get("channel")
    return mask if number is None else mask | {"channel": channels.place(number, "masks.channels")}


def masks_folder(channels: Iterable[int]) -> str:
    """What the folder of the masks that are computed of channels is called, below `output_dir`."""
    return f"mask_channels_{'-'.join(map(str, channels))}"


def weights_folder(channels: Iterable[int]) -> str:
    """The same of weight maps."""
    return f"weight_map_channels_{'-'.join(map(str, channels))}"


def masks_place(foreground: dict[str, Any] | None, out: Path, chosen: tuple[int, ...]) -> Path | None:
    """Where masks lie: the user's own, or those that are computed of channels that a preprocessing file names.

    Args:
        foreground: Values of a ForegroundConfig; None where there are no masks.
        out: `output_dir`.
        chosen: `channel_ids`, of which masks are where nothing else is said.
    """
    if foreground is None:
        return None
    if foreground["method"] == "folder":
        return Path(foreground["folder"])
    channels = foreground["channels"] or chosen
    return out / masks_folder(channels) if channels else None
