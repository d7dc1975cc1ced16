"""What an image's outputs were made from, and how they were written: stamps beside them, below `OUT/.fieldmark`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fieldmark.checkpoint.bundle import read_json
from fieldmark.core.files import write_atomic
from fieldmark.core.written import Trace, is_as_written, trace_of
from fieldmark.errors import BadInput, some

MOST_NAMED = 5


def stamp_text(made_from: str, item: dict[str, Any]) -> bytes:
    """What an image's outputs were made from (nothing while they are being written), and the names of all that is ours:
    these, and what earlier runs wrote beside. Figures lie in a folder of their own, where a PNG may have the same name.

    Traces say how each was written; while they are being written only what earlier runs wrote beside has one.
    """
    figures = set(item.get("figures", []))
    files = [*(Path(path).name for path in item["files"] if path not in figures), *item.get("before", [])]
    pictures = [*(Path(path).name for path in item.get("figures", [])), *item.get("figures_before", [])]
    traces = {path: trace for path, trace in item.get("traces", {}).items() if path not in item["files"]}
    if made_from:
        traces |= {path: trace_of(Path(path)) for path in item["files"]}
    folder = Path(item["target"]).parent
    values = {
        "made_from": made_from,
        "files": files,
        "figures": pictures,
        "traces": {_below(folder, Path(path)): trace for path, trace in traces.items()},
    }
    return json.dumps(values, indent=2).encode()


def _below(folder: Path, path: Path) -> str:
    """A file beside an image's output as seen from there, so that the folder of outputs may be moved."""
    return Path(os.path.relpath(path, folder)).as_posix()


def traces_of(item: dict[str, Any]) -> dict[str, Trace]:
    """The traces of what earlier runs wrote of an image, in whatever format, by path."""
    folder = Path(item["target"]).parent
    traces: dict[str, Trace] = {}
    for stamp in map(Path, [*item.get("stamps_beside", []), item["stamp"]]):
        told = read_json(stamp).get("traces", {}) if stamp.is_file() else {}
        traces |= {os.path.normpath(folder / name): trace for name, trace in told.items()}
    return traces


def changed_since(item: dict[str, Any]) -> list[str]:
    """Those of an image's outputs that were changed since they were written: a person's, and not ours to replace."""
    traces = item.get("traces", {})
    told = [path for path in item["files"] if path in traces and Path(path).exists()]
    return [path for path in told if not is_as_written(Path(path), traces[path])]


def require_unchanged(items: Sequence[dict[str, Any]]) -> None:
    """Raise BadInput where outputs that would be replaced were changed since they were written."""
    changed = [path for item in items for path in changed_since(item)]
    if changed:
        raise BadInput(
            f"{some(changed, MOST_NAMED)} has been changed since it was predicted, and would be replaced. Move it away "
            "to have it predicted again, or choose another --out."
        )


def give_up_figures(stamp: Path, item: dict[str, Any]) -> None:
    """Let a run of another format draw its figures anew where these take their names: they may show another answer."""
    if not stamp.is_file():
        return
    values, figures = read_json(stamp), item.get("figures", [])
    if {Path(path).name for path in figures} & set(values.get("figures", [])):
        taken = {_below(Path(item["target"]).parent, Path(path)) for path in figures}
        traces = {name: trace for name, trace in values.get("traces", {}).items() if name not in taken}
        write_atomic(stamp, json.dumps(values | {"made_from": "", "traces": traces}, indent=2).encode())


def is_there(item: dict[str, Any]) -> bool:
    """Whether an image's outputs are there already, made from the same."""
    stamp = Path(item["stamp"])
    if not stamp.is_file() or read_json(stamp).get("made_from") != item["made_from"]:
        return False
    kept = [item["kept"]] if item.get("kept") else []
    return all(Path(path).exists() for path in (*item["files"], *kept))
