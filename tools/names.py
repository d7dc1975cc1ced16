"""What a name in a module stands for: `np.load` after `import numpy as np` is `numpy.load`."""

from __future__ import annotations

import ast
from collections.abc import Iterator


class Names:
    """The imported names of one module, wherever in the module they are imported."""

    def __init__(self, tree: ast.Module) -> None:
        self._known: dict[str, str] = {}
        for local, dotted in _imported(tree):
            self._known[local] = dotted
        self._follow_assignments(tree)

    def resolve(self, node: ast.AST) -> str:
        """The dotted name that an expression stands for; empty when it is not a plain name.

        `getattr(module, "name")` with a literal name counts as `module.name`. A name
        that was not imported stands for itself, so that builtins keep theirs.
        """
        if isinstance(node, ast.Name):
            return self._known.get(node.id, node.id)
        if isinstance(node, ast.Attribute):
            return _join(self.resolve(node.value), node.attr)
        if isinstance(node, ast.Call) and self._is_getattr(node):
            return _join(self.resolve(node.args[0]), str(ast.literal_eval(node.args[1])))
        return ""

    def _is_getattr(self, node: ast.Call) -> bool:
        return (
            self.resolve(node.func) in {"getattr", "builtins.getattr"}
            and len(node.args) >= 2
            and isinstance(node.args[1], ast.Constant)
            and isinstance(node.args[1].value, str)
        )

    def _follow_assignments(self, tree: ast.Module) -> None:
        """Let `read = torch.load` make `read` stand for `torch.load`."""
        for node in ast.walk(tree):
            if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Name | ast.Attribute | ast.Call):
                continue
            dotted = self.resolve(node.value)
            if dotted.partition(".")[0] in self._roots():
                self._known.update({t.id: dotted for t in node.targets if isinstance(t, ast.Name)})

    def _roots(self) -> set[str]:
        return {dotted.partition(".")[0] for dotted in self._known.values()}


def imports(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Each import statement with each dotted name that it brings in; relative imports are left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node, f"{node.module}.{alias.name}") for alias in node.names)


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.asname, alias.name) if alias.asname else (_first(alias.name), _first(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _first(dotted: str) -> str:
    return dotted.partition(".")[0]


def _join(base: str, name: str) -> str:
    return f"{base}.{name}" if base else ""
