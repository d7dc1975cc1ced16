"""What a project holds, as JSON values, and what came of adding and importing, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fieldmark.collection.columns import column_names

if TYPE_CHECKING:
    from fieldmark.collection import AddReport
    from fieldmark.labels import ImportReport
    from fieldmark.workbench.bench import Workbench


def status_of(bench: Workbench) -> dict[str, Any]:
    """Counts and names; `fieldmark status --json` prints it as it is."""
    every = bench.collection.all(include_excluded=True)
    used = [record for record in every if not record.excluded]
    strokes = bench.labels.strokes()
    pixels: dict[int | None, list[int]] = {}
    for stroke in strokes:
        pixels.setdefault(stroke.class_id, []).append(stroke.pixels)
    return {
        "project": bench.project.name,
        "images": len(used),
        "excluded": len(every) - len(used),
        "strokes": len(strokes),
        "answers": len(bench.labels.answers()),
        "points": len(bench.labels.points()),
        "columns": column_names(used),
        "labelled_images": len(bench.labels.labelled_images()),
        "classes": [
            {
                "id": klass.id,
                "name": klass.name,
                "strokes": len(pixels.get(klass.id, [])),
                "pixels": sum(pixels.get(klass.id, [])),
            }
            for klass in bench.labels.classes()
        ],
        "models": [path.name for path in bench.models()],
        "runs": [run.id for run in bench.runs()],
    }


def add_values(report: AddReport) -> dict[str, Any]:
    """What came of adding images, as JSON values."""
    return {
        "added": [record.name for record in report.added],
        "known": report.known,
        "moved": [{"image": item.image.name, "to": item.uri} for item in report.moved],
        "duplicates": [{"image": image, "same_as": other} for image, other in report.duplicates],
        "described": [record.name for record in report.described],
        "notes": report.notes,
        "left_out": [{"file": shown, "why": why} for shown, why in report.left_out],
    }


def add_sentence(report: AddReport) -> str:
    """What came of adding images, in a sentence."""
    parts = [f"Added {len(report.added)} images"]
    parts += [f"{len(report.known)} were there already"] if report.known else []
    parts += [f"{len(report.moved)} had moved"] if report.moved else []
    parts += [f"{len(report.described)} have new columns"] if report.described else []
    parts += [f"{len(report.duplicates)} have the content of another"] if report.duplicates else []
    parts += [f"{len(report.left_out)} files were left out"] if report.left_out else []
    return "; ".join(parts) + "."


def import_values(report: ImportReport) -> dict[str, Any]:
    """What an import brought in, as JSON values."""
    return {
        "images": report.images,
        "strokes": report.strokes,
        "notes": report.notes,
        "left_out": [{"file": shown, "why": why} for shown, why in report.left_out],
    }
