"""Draw demo.png, the picture in the README, from the files of `fieldmark demo`: python docs/images/demo.py DEMO."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SHOWN = {"coins": ("coins-1", "coins-4"), "gland": ("gland-2", "gland-6"), "retina": ("retina-1", "retina-4")}
"""Of each project a field with strokes, and one that taught nothing."""
COLUMNS = ("image", "strokes", "prediction", "reference", "new image", "prediction", "reference")
SIDE, GAP, WIDE_GAP, HEAD = 132, 5, 24, 22
OBJECT, GROUND = np.array([0, 220, 230]), np.array([255, 225, 0])


def overlay(image: np.ndarray, labels: np.ndarray, strength: float) -> np.ndarray:
    """Class 2 in cyan and class 1 in yellow over a (y, x, 3) image; what is unknown stays as it is."""
    shown = image.astype(np.float64)
    for value, color in ((1, GROUND), (2, OBJECT)):
        own = labels == value
        shown[own] = (1 - strength) * shown[own] + strength * color
    return shown.round().astype(np.uint8)


def object_over(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The second class tinted, the first left as it is."""
    return overlay(image, np.where(labels == 2, 2, 0), 0.55)


def strokes(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """(y, x) classes from 1 that a marker file paints; all 0 where there is none."""
    labels = np.zeros(shape, np.uint8)
    if path.is_file():
        for line in path.read_text().splitlines()[1:]:
            x, y, _, label = (int(part) for part in line.split())
            labels[y, x] = label
    return labels


def square(panel: np.ndarray) -> Image.Image:
    """The middle of a panel, as a square of the picture's size."""
    height, width = panel.shape[:2]
    side = min(height, width)
    y, x = (height - side) // 2, (width - side) // 2
    return Image.fromarray(panel[y : y + side, x : x + side]).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def panels(folder: Path, field: str) -> list[Image.Image]:
    """Image, strokes where there are any, prediction and reference of one field."""
    image = np.asarray(Image.open(folder / "images" / f"{field}.png").convert("RGB"))
    drawn = strokes(folder / "markers" / f"{field}-seeds.txt", image.shape[:2])
    found, truth = (np.asarray(Image.open(folder / part / f"{field}.png")) for part in ("masks", "truth"))
    shown = [image, overlay(image, drawn, 1.0), object_over(image, found), object_over(image, truth)]
    return [square(panel) for panel in (shown if drawn.any() else [shown[0], *shown[2:]])]


def left_of(column: int) -> int:
    """Where a column begins; the new image stands apart."""
    return column * (SIDE + GAP) + (WIDE_GAP - GAP if column > 3 else 0)


def main(demo: Path) -> None:
    """Write demo.png beside this file."""
    rows = [[panel for field in fields for panel in panels(demo / name, field)] for name, fields in SHOWN.items()]
    canvas = Image.new("RGB", (left_of(6) + SIDE, HEAD + len(rows) * (SIDE + GAP)), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for column, name in enumerate(COLUMNS):
        draw.text((left_of(column) + SIDE // 2, 4), name, fill="black", font=font, anchor="mt")
        for line, row in enumerate(rows):
            canvas.paste(row[column], (left_of(column), HEAD + line * (SIDE + GAP)))
    canvas.quantize(255).save(Path(__file__).with_name("demo.png"), optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
