"""The gate for law 5 refuses what could run a file's content, under any name, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.law5 import FOREIGN, check_paths, check_source

HERE = "src/fieldmark/labels/example.py"

FORBIDDEN = [
    "import pickle",
    "import pickle as p",
    "from pickle import loads",
    "import cPickle",
    "import joblib",
    "from joblib import Parallel",
    "import dill",
    "import cloudpickle",
    "import shelve",
    "import marshal",
    "import runpy",
    "def f():\n    import pickle",
    "if True:\n    from pickle import load as read",
    "from six.moves import cPickle",
    "import torch\ntorch.load('f')",
    "import torch\ntorch.load('f', weights_only=True)",
    "import torch as t\nt.load('f')",
    "from torch import load\nload('f')",
    "from torch import load as read\nread('f')",
    "import torch\nread = torch.load\nread('f')",
    "import torch\ngetattr(torch, 'load')('f')",
    "import torch\nlist(map(torch.load, files))",
    "import torch\ntorch.save(net, 'f')",
    "import torch.jit\ntorch.jit.load('f')",
    "import torch\ntorch.hub.load('a', 'b')",
    "from torch import serialization\nserialization.load('f')",
    "def f(fabric):\n    return fabric.load('f')",
    "class A:\n    def f(self):\n        self._fabric.save('f', {})",
    "def f(engine):\n    engine.load_raw('f')",
    "import lightning_fabric.utilities as u\nu.load('f')",
    "eval('1')",
    "exec('a = 1')",
    "compile('1', 'f', 'eval')",
    "list(map(eval, texts))",
    "import builtins\nbuiltins.eval('1')",
    "from builtins import exec as run\nrun('1')",
    "__import__('os')",
    "import importlib\nimportlib.import_module(name)",
    "from importlib import import_module\nimport_module(name)",
    "from importlib import import_module as get\nget(f'{name}.fieldmark')",
    "from importlib import import_module as get\nget(f'fieldmark_{name}')",
    "from importlib import import_module\nimport_module('pickle')",
    "from importlib import import_module\nfind = import_module",
    "from importlib import import_module\nT = {'a': other}\nimport_module(T['a'])",
    "from fieldmark.core.lazy import lazy\nfind, known = lazy(names, globals())",
    "from fieldmark.core.lazy import lazy\nfind, known = lazy({'a': 'b'} | names, globals())",
    "from fieldmark.core.lazy import lazy\nT = {'a': other}\nfind, known = lazy(T, globals())",
    "from fieldmark.core.lazy import lazy\nfind, known = lazy(names=T, package=globals())",
    "from fieldmark.core.lazy import lazy as later\nhand_on(later)",
    "import importlib.util\nimportlib.util.spec_from_file_location('a', 'b')",
    "import numpy as np\nnp.load('f')",
    "import numpy as np\nnp.load('f', allow_pickle=True)",
    "import numpy as np\nnp.load('f', allow_pickle=flag)",
    "import numpy as np\nnp.load('f', None, True)",
    "import numpy\nnumpy.load('f')",
    "from numpy import load\nload('f')",
    "from numpy import load as l\nl('f', mmap_mode='r')",
    "from numpy import *",
    "import numpy as np\nread = np.load",
    "import numpy as np\nnp.save('f', a, allow_pickle=True)",
    "import pandas as pd\npd.read_pickle('f')",
    "frame.to_pickle('f')",
    "import yaml\nyaml.load(text)",
    "import yaml\nyaml.load(text, Loader=yaml.Loader)",
    "import yaml\nyaml.load(text, yaml.UnsafeLoader)",
    "import yaml\nyaml.unsafe_load(text)",
    "from yaml import full_load\nfull_load(text)",
    "from yaml import load, Loader\nload(text, Loader)",
    "import yaml\nyaml.load_all(text)",
    "import yaml\nclass Mine(yaml.FullLoader): ...\nyaml.load(text, Loader=Mine)",
    "import os\nos.system('ls')",
    "from os import popen\npopen('ls')",
    "import subprocess\nsubprocess.run('ls', shell=True)",
    "import subprocess as s\ns.Popen('ls', shell=flag)",
    "import tarfile\ntarfile.open('f').extractall('d')",
    "import zipfile\nwith zipfile.ZipFile('f') as z:\n    z.extractall()",
    "import shutil\nshutil.unpack_archive('f')",
    "connection.enable_load_extension(True)",
]

ALLOWED = [
    "import json\njson.loads(text)",
    "net.eval()",
    "import re\nre.compile('a')",
    "def eval_step(x): return x\neval_step(1)",
    "import ast\nast.literal_eval(text)",
    "import numpy as np\nnp.load('f', allow_pickle=False)",
    "import numpy as np\nnp.load('f', mmap_mode='r', allow_pickle=False)",
    "import numpy as np\nnp.loadtxt('f')",
    "import numpy as np\nnp.save('f', a)",
    "import yaml\nyaml.safe_load(text)",
    "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)",
    "import yaml\nclass Strict(yaml.SafeLoader): ...\nyaml.load(text, Loader=Strict)",
    "from safetensors.numpy import load\nload(data)",
    "from fieldmark import checkpoint\ncheckpoint.load(path)",
    "store.load(name)",
    "import torch\ntorch.loadtxt",
    "import subprocess\nsubprocess.run(['ls'], check=True)",
    "import subprocess\nsubprocess.run(['ls'], shell=False)",
    "from xml.etree import ElementTree\nElementTree.fromstring(text)",
    "from importlib import import_module\nT = {'a': 'b.c'}\ndef __getattr__(n): return import_module(T[n])",
    "from importlib import import_module\nimport_module('fieldmark.images')",
    "from fieldmark.core.lazy import lazy\nT = {'a': 'b.c'}\n__getattr__, __dir__ = lazy(T, globals())",
    "from importlib import import_module\nimport_module(f'fieldmark.faces.cli.{name}')",
    "from importlib.metadata import version\nversion('fieldmark')",
    "from . import pickle_free",
    "def load(path): ...\nload('f')",
    "frame.pickle",
]


@pytest.mark.parametrize("source", FORBIDDEN)
def test_what_could_run_a_file_is_refused(source: str) -> None:
    assert check_source(source, HERE)


@pytest.mark.parametrize("source", ALLOWED)
def test_what_is_harmless_passes(source: str) -> None:
    assert check_source(source, HERE) == []


def test_foreign_weights_have_one_place() -> None:
    safe = "import torch\ntorch.load('f', map_location='cpu', weights_only=True)"
    assert check_source(safe, FOREIGN) == []
    assert check_source(safe.replace("True", "False"), FOREIGN)
    assert check_source("import torch\ntorch.load('f')", FOREIGN)
    assert check_source("import torch\nread = torch.load", FOREIGN)


@pytest.mark.parametrize("name", ["registry", "lazy"])
def test_the_registry_and_the_table_of_public_names_may_import_what_they_hold(name: str) -> None:
    source = "from importlib import import_module\nimport_module(module)"
    assert check_source(source, f"src/fieldmark/core/{name}.py") == []
    assert check_source(source, f"src/fieldmark/core/{name}2.py")
    assert check_source(source, f"src/fieldmark/images/{name}.py")
    assert check_source(source, f"src/fieldmark/core/{name}/__init__.py")


def test_tests_that_make_hostile_files_may() -> None:
    source = "import pickle\npickle.dumps({})"
    assert check_source(source, "tests/images/test_hostile.py") == []
    assert check_source(source, "tests/images/test_readers.py")
    assert check_source(source, "src/fieldmark/images/hostile.py")


def test_tests_may_write_torch_files_but_not_read_them() -> None:
    assert check_source("import torch\ntorch.save({}, 'f')", "tests/models/test_foreign.py") == []
    assert check_source("import torch\ntorch.load('f')", "tests/models/test_foreign.py")


def test_a_message_says_where_what_and_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "src" / "reader.py"
    file.parent.mkdir()
    file.write_text("import numpy as np\n\nprices = np.load('f')\n")
    (found,) = check_paths([tmp_path / "src"], root=tmp_path)
    assert str(found).startswith("src/reader.py:3: this call of numpy.load is forbidden by law 5.")
    assert "allow_pickle=False" in str(found)


def test_each_line_is_named_once() -> None:
    lines = [f.line for f in check_source("import torch\nx = 1\ntorch.load('a')\ntorch.load('b')", HERE)]
    assert lines == [3, 4]


def test_this_repository_keeps_the_law() -> None:
    assert check_paths([Path(__file__).parents[2] / "src"]) == []
