"""Measure every claim and put the ratios into RESULTS.md, in the place of what the same claims said before.

    python -m benchmarks.run [NAME ...] [--dry]

Each claim is a module with `CLAIM` and `PEER` (a sentence each) and `measure() -> list[Row]`.
`--dry` prints without writing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import ModuleType

from benchmarks.machine import machine
from benchmarks.rows import Row

RESULTS = Path(__file__).with_name("RESULTS.md")

BENCHMARKS = {
    "fit": "benchmarks.bench_fit",
    "help": "benchmarks.bench_help",
    "kernels": "benchmarks.bench_kernels",
    "labels": "benchmarks.bench_labels",
    "light": "benchmarks.bench_light",
    "prepare": "benchmarks.bench_prepare",
    "strokes": "benchmarks.bench_strokes",
    "tiled": "benchmarks.bench_tiled",
    "training": "benchmarks.bench_training",
}


def section(name: str, module: ModuleType, rows: Sequence[Row]) -> str:
    """The Markdown of one claim."""
    head = f"### {name}\n\n{module.CLAIM}\nPeer: {module.PEER}\n\n"
    table = "| case | ours | peer | times better | spread |\n|---|---|---|---|---|\n"
    return head + table + "".join(f"{line}\n" for line in map(_line, rows)) + "\n"


def _line(row: Row) -> str:
    peer = "-" if row.peer is None else f"{row.peer:.4g} {row.unit}"
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
    return f"| {row.case} | {row.ours:.4g} {row.unit} | {peer} | {ratio} | {row.spread} |"


def sections(names: Sequence[str]) -> Iterator[str]:
    """Measure the named claims, one after the other."""
    for name in names:
        print(f"measuring {name} ...", file=sys.stderr)
        module = import_module(BENCHMARKS[name])
        yield section(name, module, module.measure())


def main(arguments: Sequence[str]) -> int:
    """Measure, print, append to RESULTS.md."""
    names = [a for a in arguments if a != "--dry"] or list(BENCHMARKS)
    if unknown := [name for name in names if name not in BENCHMARKS]:
        print(f"Unknown: {', '.join(unknown)}. Known: {', '.join(BENCHMARKS)}.", file=sys.stderr)
        return 2
    text = f"## {datetime.now(UTC).date()}\n\n{machine()}\n\n" + "".join(sections(names))
    print(text)
    if "--dry" not in arguments:
        RESULTS.write_text(without(RESULTS.read_text("utf-8"), names).rstrip() + f"\n\n{text}", "utf-8")
    return 0


def without(results: str, names: Sequence[str]) -> str:
    """The results without what earlier runs said of these claims, nor a machine that then has no claim left."""
    runs = re.split(r"^(?=## )", results, flags=re.MULTILINE)
    kept = []
    for run in runs:
        head, *claims = re.split(r"^(?=### )", run, flags=re.MULTILINE)
        left = [claim for claim in claims if claim.partition("\n")[0].removeprefix("### ") not in names]
        if left or not claims:
            kept.append("".join([head, *left]))
    return "".join(kept)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
