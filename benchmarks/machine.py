"""What was measured on, in words; no names of machines or people."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil

_CPUINFO = Path("/proc/cpuinfo")
_BF16 = ("amx_bf16", "avx512_bf16", "svebf16", "bf16")


def machine() -> str:
    """Processor, cores, memory, versions and how busy it was."""
    memory = psutil.virtual_memory().total / 2**30
    load = f", load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else ""
    units = ", ".join(bf16_units()) or "none"
    return (
        f"{_processor()} (bfloat16 units: {units}), {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}, torch {version('torch')}{load}"
    )


def bf16_units() -> list[str]:
    """The processor's instructions for bfloat16, as Linux lists them; without them bf16 is slower than fp32."""
    flags = set(" ".join(_cpu_lines("flags") + _cpu_lines("Features")).split())
    return [name for name in _BF16 if name in flags]


def _processor() -> str:
    names = _cpu_lines("model name")
    return names[0] if names else platform.processor() or platform.machine()


def _cpu_lines(key: str) -> list[str]:
    lines = _CPUINFO.read_text(encoding="utf-8").splitlines() if _CPUINFO.is_file() else []
    return [line.partition(":")[2].strip() for line in lines if line.startswith(key)]
