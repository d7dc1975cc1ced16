"""The gate for law 5, "opening a file never runs it": refuse code that could.

    python -m tools.law5 [PATH ...]

Reads the syntax tree of every Python file below the paths (by default the package, the
tools, the benchmarks, the tests and the documentation), follows imported names through
their aliases, and lists each line that could run what a file holds. Exits 1 when there is one.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.names import Names, imports

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_PATHS = ("src", "tools", "benchmarks", "tests", "docs")

FOREIGN = "src/fieldmark/models/foreign.py"
"""The one file that reads other people's weights, with `weights_only=True`."""

DYNAMIC_IMPORTS = frozenset({"src/fieldmark/core/registry.py", "src/fieldmark/core/lazy.py"})
"""The files that import by a name that is not in a literal table beside the call: registered names and a class
whose name the user typed on this run; the public names of a package, which hands on such a table (`LAZY`)."""
LAZY = "fieldmark.core.lazy.lazy"

PICKLES = "Keep it as JSON, safetensors, zarr or .npy: a pickle runs code when it is read."
RUNS = "Parse the value (ast.literal_eval, json, pydantic): text from a file must not run."
WEIGHTS = "Use fieldmark.checkpoint; foreign weights are read in models/foreign.py alone."
NPY = "Write numpy.load(..., allow_pickle=False)."
YAML = "Use yaml.safe_load, or yaml.load with Loader=yaml.SafeLoader or a class derived from it here."
SHELL = "Call subprocess.run with a list of arguments and no shell."
ARCHIVE = "Read the members one by one and check each name: an archive may write outside its folder."
IMPORTS = "Register the name in a core.registry.Registry, or look it up in a literal dict of this module."

MODULES = dict.fromkeys(
    ["pickle", "cPickle", "_pickle", "pickletools", "joblib", "dill", "cloudpickle", "shelve", "marshal"], PICKLES
) | {"runpy": RUNS, "code": RUNS, "codeop": RUNS, "imp": IMPORTS}

NAMES = (
    dict.fromkeys(["eval", "exec", "compile", "builtins.eval", "builtins.exec", "builtins.compile"], RUNS)
    | dict.fromkeys(["__import__", "builtins.__import__"], IMPORTS)
    | dict.fromkeys(["torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "torch.export.load"], WEIGHTS)
    | dict.fromkeys(["torch.serialization.load", "torch.ops.load_library", "torch.classes.load_library"], WEIGHTS)
    | dict.fromkeys(["lightning_fabric.utilities.load", "lightning_fabric.utilities.cloud_io._load"], WEIGHTS)
    | dict.fromkeys(["pandas.read_pickle", "sklearn.externals", "six.moves.cPickle", "numcodecs.Pickle"], PICKLES)
    | dict.fromkeys(["yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"], YAML)
    | dict.fromkeys(["yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader", "yaml.CLoader", "yaml.load_all"], YAML)
    | dict.fromkeys(["os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"], SHELL)
    | dict.fromkeys(["importlib.util.spec_from_file_location", "importlib.machinery.SourceFileLoader"], IMPORTS)
    | {"shutil.unpack_archive": ARCHIVE}
)

METHODS = {
    "extractall": ARCHIVE,
    "to_pickle": PICKLES,
    "read_pickle": PICKLES,
    "load_extension": RUNS,
    "enable_load_extension": RUNS,
}

ENGINE_METHODS = frozenset({"load", "load_raw", "save"})
NUMPY_LOADS = frozenset({"numpy.load", "numpy.lib.npyio.load"})
IMPORT_MODULE = "importlib.import_module"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One line that law 5 forbids."""

    path: str
    line: int
    what: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what} is forbidden by law 5. {self.instead}"


def check_source(source: str, path: str) -> list[Finding]:
    """List what law 5 forbids in one module.

    Args:
        source: The module's text.
        path: Its path below the repository's root, with forward slashes: some rules
            have one place where they do not hold.
    """
    if makes_hostile_files(path):
        return []
    tree = ast.parse(source, filename=path)
    return sorted(set(_Gate(tree, path).findings()))


def makes_hostile_files(path: str) -> bool:
    """Tests named `hostile` make the very files that the gate is about, so it leaves them out."""
    return path.startswith("tests/") and "hostile" in Path(path).name


class _Gate:
    """The rules, applied to one module."""

    def __init__(self, tree: ast.Module, path: str) -> None:
        self.tree = tree
        self.path = path
        self.names = Names(tree)
        self.called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        self.tables = set(_literal_tables(tree))
        self.safe_loaders = set(_SAFE_BASES) | set(_derived_safe_loaders(tree, self.names))

    def findings(self) -> Iterator[Finding]:
        yield from self._imports()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield from self._call(node)
            if isinstance(node, ast.Name | ast.Attribute | ast.Call):
                yield from self._reference(node)

    def _imports(self) -> Iterator[Finding]:
        for node, dotted in imports(self.tree):
            root, _, rest = dotted.partition(".")
            if root in MODULES:
                yield self._found(node, f"import of {root}", MODULES[root])
            elif rest.endswith("*") and root in {"numpy", "torch", "yaml", "pandas", "builtins"}:
                yield self._found(node, f"from {root} import *", "Import the names that you use.")
            elif dotted in NAMES:
                yield self._found(node, f"import of {dotted}", NAMES[dotted])

    def _reference(self, node: ast.expr) -> Iterator[Finding]:
        """A forbidden name, called or handed on."""
        dotted = self.names.resolve(node)
        if dotted in NAMES and not (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)):
            yield self._found(node, dotted, NAMES[dotted])
        elif isinstance(node, ast.Attribute) and node.attr in METHODS:
            yield self._found(node, f".{node.attr}", METHODS[node.attr])
        elif isinstance(node, ast.Attribute) and self._is_engine_file(node):
            yield self._found(node, f"{ast.unparse(node)} (the engine's own files are pickles)", WEIGHTS)
        elif id(node) not in self.called and dotted in self._rules():
            yield self._found(node, f"{dotted} handed on as a value", self._rules()[dotted][1])

    def _call(self, node: ast.Call) -> Iterator[Finding]:
        """A call whose arguments decide whether it is allowed."""
        dotted = self.names.resolve(node.func)
        given = {word.arg: word.value for word in node.keywords if word.arg}
        allowed, instead = self._rules().get(dotted, (_always, ""))
        if not allowed(node, given):
            yield self._found(node, f"this call of {dotted}", instead)
        if "allow_pickle" in given and not _is(given["allow_pickle"], value=False):
            yield self._found(node, "allow_pickle other than False", NPY)
        if "shell" in given and not _is(given["shell"], value=False):
            yield self._found(node, "shell other than False", SHELL)

    def _rules(self) -> dict[str, tuple[_Rule, str]]:
        loads = dict.fromkeys(NUMPY_LOADS, (_no_pickle, NPY))
        return loads | {
            "torch.load": (self._foreign, WEIGHTS),
            "torch.save": (self._not_shipped, WEIGHTS),
            IMPORT_MODULE: (self._listed, IMPORTS),
            LAZY: (self._tabled, IMPORTS),
            "yaml.load": (self._safe_yaml, YAML),
        }

    def _foreign(self, _: ast.Call, given: dict[str, ast.expr]) -> bool:
        return self.path == FOREIGN and "weights_only" in given and _is(given["weights_only"], value=True)

    def _not_shipped(self, _call: ast.Call, _given: dict[str, ast.expr]) -> bool:
        return self.path.startswith("tests/")

    def _listed(self, node: ast.Call, _given: dict[str, ast.expr]) -> bool:
        """A literal name, TABLE[name] with a literal dict of this module, or f"fieldmark.room.{name}"."""
        if self.path in DYNAMIC_IMPORTS or not node.args:
            return self.path in DYNAMIC_IMPORTS
        wanted = node.args[0]
        if isinstance(wanted, ast.Constant):
            return str(wanted.value).partition(".")[0] not in MODULES
        if isinstance(wanted, ast.JoinedStr):
            return _is_own_module(wanted)
        return isinstance(wanted, ast.Subscript) and self.names.resolve(wanted.value) in self.tables

    def _tabled(self, node: ast.Call, _given: dict[str, ast.expr]) -> bool:
        """The names are a literal dict of this module."""
        return bool(node.args) and isinstance(node.args[0], ast.Name) and node.args[0].id in self.tables

    def _safe_yaml(self, node: ast.Call, given: dict[str, ast.expr]) -> bool:
        loader = given.get("Loader") or (node.args[1] if len(node.args) > 1 else None)
        return loader is not None and self.names.resolve(loader) in self.safe_loaders

    def _is_engine_file(self, node: ast.Attribute) -> bool:
        owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
        return node.attr in ENGINE_METHODS and owner.strip("_").lower() in {"fabric", "engine"}

    def _found(self, node: ast.stmt | ast.expr, what: str, instead: str) -> Finding:
        return Finding(self.path, node.lineno, what, instead)


_Rule = Callable[[ast.Call, dict[str, ast.expr]], bool]


def _always(_call: ast.Call, _given: dict[str, ast.expr]) -> bool:
    return True


def _is_own_module(name: ast.JoinedStr) -> bool:
    """The text in front of the first brace leads into one of our own packages."""
    first = name.values[0]
    return isinstance(first, ast.Constant) and str(first.value).startswith("fieldmark.") and str(first.value)[-1] == "."


def _no_pickle(_: ast.Call, given: dict[str, ast.expr]) -> bool:
    return "allow_pickle" in given  # its value is checked wherever the word stands


def _is(node: ast.expr, *, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _derived_safe_loaders(tree: ast.Module, names: Names) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(names.resolve(base) in _SAFE_BASES for base in node.bases):
            yield node.name


def _literal_tables(tree: ast.Module) -> Iterator[str]:
    """Names of the module's dicts whose every key and value is a literal string."""
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not isinstance(node.value, ast.Dict):
            continue
        if all(isinstance(part, ast.Constant) for part in (*node.value.keys, *node.value.values)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (t.id for t in targets if isinstance(t, ast.Name))


_SAFE_BASES = frozenset({"yaml.SafeLoader", "yaml.CSafeLoader"})


def check_paths(paths: Sequence[Path], root: Path = ROOT) -> list[Finding]:
    """Check every Python file at or below `paths`; their names are shown below `root`."""
    found: list[Finding] = []
    for path in paths:
        for file in sorted([path] if path.is_file() else path.rglob("*.py")):
            found += check_source(file.read_text(encoding="utf-8"), file.resolve().relative_to(root).as_posix())
    return found


def main(arguments: Sequence[str]) -> int:
    """Print what is found; the exit status is 1 when there is something."""
    paths = [Path(a) for a in arguments] or [ROOT / name for name in DEFAULT_PATHS if (ROOT / name).is_dir()]
    findings = check_paths(paths)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
