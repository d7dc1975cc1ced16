"""What this machine and this project can do."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fieldmark import __version__
from fieldmark.errors import FieldmarkError, some

Finding = tuple[bool, str, str]
"""Whether it is well, what was looked at, what was found."""

PACKAGES = ("torch", "lightning-fabric", "numpy", "scikit-learn", "scikit-image", "tifffile", "imagecodecs", "zarr")


def examine(project: Path) -> list[Finding]:
    """Look at Python, packages, cores, disk and, where there is one, the project in a folder."""
    findings = [
        (sys.version_info >= (3, 11), "Python", sys.version.split()[0]),
        (True, "Fieldmark", __version__),
        *(_package(name) for name in PACKAGES),
        (True, "cores", str(os.cpu_count())),
        _disk(project),
    ]
    return findings + _project(project)


def _package(name: str) -> Finding:
    try:
        return True, name, version(name)
    except PackageNotFoundError:
        return False, name, f"not installed. pip install {name}"


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder if folder.exists() else Path.cwd()).free / 1e9
    return free > 1, "free disk", f"{free:.1f} GB"


def _project(folder: Path) -> list[Finding]:
    from fieldmark.store.places import is_network_folder
    from fieldmark.workbench.bench import Workbench
    from fieldmark.workbench.project import CONFIG

    if not (folder / CONFIG).is_file():
        return [(True, "project", f"none in {folder}")]
    network = is_network_folder(folder)
    findings = [(not network, "project folder", "on a network: move it to a local disk" if network else "local")]
    try:
        with Workbench.open(folder) as bench:
            problems = bench.store.check()
            images = bench.collection.all()
    except FieldmarkError as error:
        return [*findings, (False, "project", str(error))]
    lost = [record.name for record in images if not record.path.exists()]
    findings.append((not problems, "database", "; ".join(problems) or "whole"))
    what = "Add the folder where they are now, or leave them out: fieldmark exclude IMAGE"
    told = f"{len(lost)} missing: {some(lost, 5)}. {what}" if lost else f"{len(images)} found"
    return [*findings, (not lost, "images", told)]
