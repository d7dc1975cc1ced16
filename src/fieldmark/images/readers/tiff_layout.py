"""How the axes of a TIFF series become `tczyx`. Arithmetic only."""

from __future__ import annotations

from dataclasses import dataclass

from fieldmark.core.axes import AXES
from fieldmark.errors import BadFile

_DIRECT = {"T": "t", "C": "c", "Z": "z", "Y": "y", "X": "x", "S": "s"}
_SPARE = "zt"
"""Where axes without a name of ours go, in this order."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The axes of one pyramid level.

    Args:
        order: The role of each axis of the series that is not dropped, in the file's order: one of
            `tczyx`, or `s` for the samples of a pixel.
        sizes: Pixels along each of them.
    """

    order: str
    sizes: tuple[int, ...]

    def size(self, role: str) -> int:
        return self.sizes[self.order.index(role)] if role in self.order else 1

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(t, c, z, y, x), the samples of a pixel counted as channels: channel c, sample s is c * S + s."""
        channels = self.size("c") * self.size("s")
        return self.size("t"), channels, self.size("z"), self.size("y"), self.size("x")

    @property
    def axes(self) -> str:
        """The axes that the file has, in `tczyx` order."""
        has = self.order.replace("s", "c")
        return "".join(axis for axis in AXES if axis in has)

    @property
    def outer(self) -> tuple[tuple[str, int], ...]:
        """Role and size of the axes that count pages, in the file's order."""
        return tuple((role, size) for role, size in zip(self.order, self.sizes, strict=True) if role in "tcz")

    @property
    def outer_first(self) -> bool:
        """Whether the axes that count pages all come before those inside a page."""
        return not set(self.order[len(self.outer) :]) & set("tcz")

    def page(self, t: int, c: int, z: int) -> int:
        """Which page of the series holds this plane."""
        at = {"t": t, "c": c, "z": z}
        index = 0
        for role, size in self.outer:
            index = index * size + at[role]
        return index


def plan_layout(axes: str, shape: tuple[int, ...], shown: str) -> Layout:
    """Give every axis of a series its role.

    T, C, Z, Y, X and S (samples) are themselves. Any other that is more than one long (Q "other",
    I "image in the file", ...) becomes z, or t where there is a z already.

    Raises:
        BadFile: More axes than there are roles for, or no rows and columns.
    """
    roles: list[str] = []
    sizes: list[int] = []
    taken = {_DIRECT[axis] for axis, size in zip(axes, shape, strict=True) if axis in _DIRECT and size > 1}
    for axis, size in zip(axes, shape, strict=True):
        role = _DIRECT.get(axis) or next((spare for spare in _SPARE if spare not in taken), None)
        if size == 1 and (axis not in "YX" or role in roles):
            continue
        if role is None or role in roles:
            raise BadFile(
                shown,
                f"its axes are {axes} {shape}, more than time, channel, depth, row and column. "
                "Split it into several images.",
            )
        taken.add(role)
        roles.append(role)
        sizes.append(int(size))
    if not {"y", "x"} <= set(roles):
        raise BadFile(shown, f"its axes are {axes} {shape}: there are no rows and columns. Export it as a plain TIFF.")
    return Layout("".join(roles), tuple(sizes))
