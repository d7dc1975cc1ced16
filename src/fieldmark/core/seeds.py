"""Where randomness comes from: integers made of what is being done, never of what was done before."""

from __future__ import annotations

from hashlib import sha256


def derive_seed(seed: int, *path: str | int) -> int:
    """A 63-bit seed for one random draw, named by its place.

    The same seed and path give the same integer on every machine; different paths
    give unrelated ones. So a resumed run draws what the unbroken run would have drawn.

    >>> derive_seed(0, "descend", 3) == derive_seed(0, "descend", 3)
    True
    """
    text = "/".join([str(int(seed)), *map(_named, path)])
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big") >> 1


def _named(part: str | int) -> str:
    """The part with its type, so that 1 and "1" differ; a slash in it is no border between parts."""
    text = str(part).replace("\\", "\\\\").replace("/", "\\/")
    return f"{type(part).__name__}:{text}"
