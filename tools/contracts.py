"""A kind of import contract that the linter lacks: no third-party package but the ones named."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from importlinter import Contract, ContractCheck, fields, output

if TYPE_CHECKING:
    from grimp import ImportGraph


class OnlyStandardLibrary(Contract):
    """The modules import each other, the standard library and the allowed packages, directly or through others."""

    type_name = "only_standard_library"

    modules: Any = fields.ListField(subfield=fields.ModuleField())
    allowed: Any = fields.SetField(subfield=fields.StringField(), required=False, default=set())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        ours = {name for root in self.modules for name in (root.name, *graph.find_descendants(root.name))}
        wrong = sorted(
            f"{importer} imports {imported}"
            for importer in ours
            for imported in graph.find_modules_directly_imported_by(importer)
            if imported not in ours and not self._allows(imported)
        )
        return ContractCheck(kept=not wrong, metadata={"wrong": wrong})

    def render_broken_contract(self, check: Any) -> None:
        for line in check.metadata["wrong"]:
            output.print_error(line)

    def _allows(self, imported: str) -> bool:
        root = imported.partition(".")[0]
        return root in sys.stdlib_module_names or root in self.allowed
