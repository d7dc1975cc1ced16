"""What every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real images; the test is skipped, saying so, where it is missing."""
    folder = Path(os.environ.get("FIELDMARK_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real images are missing: {folder} (set FIELDMARK_DATA)")
    return folder
