"""The gate for the sizes in the house style: short functions, modules that can be read in one sitting.

    python -m tools.sizes [--list]

A body's size is its lines of code: no docstring, no blank line, no comment. Exits 1 when
the median, the ninth decile, the longest function or the longest module is over its limit.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATHS = ("src", "tools", "benchmarks")

MEDIAN = 8
NINE_IN_TEN = 30
LONGEST = 60
MODULE = 500


@dataclass(frozen=True, slots=True)
class Size:
    """The lines of code of one function, or all lines of one module."""

    lines: int
    where: str


def function_sizes(source: str, path: str) -> Iterator[Size]:
    """The size of each function body in a module; an inner function counts alone and in its outer one."""
    code = _code_lines(source)
    for node in ast.walk(ast.parse(source, filename=path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
            span = range(body[0].lineno, (body[-1].end_lineno or 0) + 1) if body else range(0)
            yield Size(len(code.intersection(span)), f"{path}:{node.lineno} {node.name}")


def _code_lines(source: str) -> set[int]:
    """Numbers of the lines that are neither blank nor a comment."""
    lines = enumerate(source.splitlines(), start=1)
    return {number for number, line in lines if line.strip() and not line.lstrip().startswith("#")}


def quantile(sizes: Sequence[Size], share: float) -> int:
    """The smallest size that `share` of the functions do not exceed; 0 for none."""
    ordered = sorted(size.lines for size in sizes)
    return ordered[ceil(len(ordered) * share) - 1] if ordered else 0


def problems(functions: Sequence[Size], modules: Sequence[Size]) -> list[str]:
    """What is over its limit, in words."""
    found = [f"{f.where}: {f.lines} lines of code; at most {LONGEST}." for f in functions if f.lines > LONGEST]
    found += [f"{m.where}: {m.lines} lines; at most {MODULE} in a module." for m in modules if m.lines > MODULE]
    for name, share, limit in (("median", 0.5, MEDIAN), ("ninth decile", 0.9, NINE_IN_TEN)):
        if quantile(functions, share) > limit:
            found.append(f"The {name} of the function bodies is {quantile(functions, share)} lines; at most {limit}.")
    return found


def measure(root: Path = ROOT) -> tuple[list[Size], list[Size]]:
    """Sizes of all functions and of all modules below the root's code folders."""
    functions: list[Size] = []
    modules: list[Size] = []
    for file in sorted(file for name in PATHS for file in (root / name).rglob("*.py")):
        source, path = file.read_text(encoding="utf-8"), file.relative_to(root).as_posix()
        functions += function_sizes(source, path)
        modules.append(Size(len(source.splitlines()), path))
    return functions, modules


def main(arguments: Sequence[str]) -> int:
    """Print a summary and what is over its limit; the exit status is 1 when something is."""
    functions, modules = measure()
    if "--list" in arguments:
        for size in sorted(functions, key=lambda s: -s.lines)[:30]:
            print(f"{size.lines:4d}  {size.where}")
    print(
        f"{len(functions)} functions: median {quantile(functions, 0.5)} lines, "
        f"nine in ten at most {quantile(functions, 0.9)}, longest {quantile(functions, 1.0)}; "
        f"{len(modules)} modules, longest {quantile(modules, 1.0)}"
    )
    found = problems(functions, modules)
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
