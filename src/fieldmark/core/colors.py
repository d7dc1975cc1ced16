"""Colors that tell classes apart, for people with any kind of color vision too."""

from __future__ import annotations

RGB = tuple[int, int, int]
"""Red, green and blue, each 0 to 255."""

# Okabe and Ito's palette (2008). Its order here sets the first two far apart: most projects have two classes,
# and the first is usually the background. Its black is replaced by a gray that shows on dark pages.
CLASS_COLORS: tuple[RGB, ...] = (
    (86, 180, 233),
    (213, 94, 0),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (230, 159, 0),
    (0, 114, 178),
    (127, 127, 127),
)


def class_color(index: int) -> RGB:
    """The color of the class at `index`, from 0.

    The palette's eight come first; the next eight are the same, halfway to white, then
    halfway to black, and so on: past eight, names must stand beside the colors.
    """
    color = CLASS_COLORS[index % len(CLASS_COLORS)]
    turn = index // len(CLASS_COLORS)
    if turn == 0:
        return color
    toward = 255 if turn % 2 else 0
    red, green, blue = ((part + toward) // 2 for part in color)
    return red, green, blue


def hex_color(color: RGB) -> str:
    """`#rrggbb`.

    >>> hex_color((213, 94, 0))
    '#d55e00'
    """
    return "#{:02x}{:02x}{:02x}".format(*color)
