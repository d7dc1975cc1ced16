"""How long a user waits for `fieldmark --help` and `import fieldmark`."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

from benchmarks.rows import Row, interleaved, spread

CLAIM = "`fieldmark --help` and `import fieldmark` take at most 0.3 s."
PEER = "the bare interpreter (`python -c pass`), whose start is part of both."
REPEATS = 15


def measure() -> list[Row]:
    run = partial(subprocess.run, check=True, capture_output=True)
    script = str(Path(sys.executable).with_name("fieldmark"))
    taken = interleaved(
        {
            "bare": lambda: run([sys.executable, "-c", "pass"]),
            "import fieldmark": lambda: run([sys.executable, "-c", "import fieldmark"]),
            "fieldmark --help": lambda: run([script, "--help"]),
        },
        REPEATS,
    )
    bare = min(taken["bare"])
    return [Row(name, min(taken[name]), bare, "s", spread=spread(taken[name])) for name in list(taken)[1:]]
