"""What layers are called where people read of them."""

from __future__ import annotations


def layer_name(path: str) -> str:
    """`branches.0.2` is the third layer of the first branch: `branch1/layer3`. Named layers keep their names.

    Args:
        path: The layer's module, as the names of weights have it.
    """
    match path.split("."):
        case ["branches", branch, layer]:
            return f"branch{int(branch) + 1}/layer{int(layer) + 1}"
        case ["graph", *names]:
            return "/".join(names)
        case names:
            return "/".join(names)
