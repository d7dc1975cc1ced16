"""Values written into a YAML recipe, whose comments, order and layout stay."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import yaml

from fieldmark.recipes.texts import parse_yaml

Path = Sequence[str]


def with_values(text: str, values: Sequence[tuple[Path, float]]) -> str:
    """The text with numbers set at their paths; keys that are missing are put in.

    Where the text cannot be changed in its places (an anchor that others refer to, say) it is written anew, without
    its comments: what it says counts more than how.

    Args:
        text: A YAML mapping, or nothing.
        values: Paths of keys, and the number of each.
    """
    wanted = copy.deepcopy(parse_yaml(text) or {})
    for path, value in values:
        _set(wanted, path, value)
    try:
        for path, value in values:
            text = _edited(text, path, value)
        if parse_yaml(text) == wanted:
            return text
    except (ValueError, yaml.YAMLError):
        pass
    return str(yaml.safe_dump(wanted, sort_keys=False, allow_unicode=True))


def _set(values: dict[str, Any], path: Path, value: float) -> None:
    for key in path[:-1]:
        inner = values.get(key)
        values[key] = dict(inner) if isinstance(inner, dict) else {}
        values = values[key]
    values[path[-1]] = value


def _edited(text: str, path: Path, value: float) -> str:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{path[0]}: {_written(path[1:], value)}\n"
    for depth, key in enumerate(path):
        inner = next((each for name, each in node.value if name.value == key), None)
        rest = path[depth + 1 :]
        if inner is None:
            return _added(text, node, f"{key}: {_written(rest, value)}")
        if not rest or not isinstance(inner, yaml.MappingNode):
            begin, end = inner.start_mark.index, inner.end_mark.index
            gap = " " if text[begin - 1 : begin] == ":" else ""
            return text[:begin] + gap + _written(rest, value) + text[end:]
        node = inner
    return text


def _added(text: str, node: yaml.MappingNode, entry: str) -> str:
    """The text with one more entry of a mapping."""
    if node.flow_style:
        place = node.end_mark.index - 1
        return text[:place].rstrip() + (", " if node.value else "") + entry + text[place:]
    place = node.start_mark.index
    return text[:place] + entry + "\n" + " " * node.start_mark.column + text[place:]


def _written(path: Path, value: float) -> str:
    """`{max_lr: 0.5}` for the path `max_lr`; the number alone for none."""
    number = str(yaml.safe_dump(value)).partition("\n")[0]
    for key in reversed(path):
        number = f"{{{key}: {number}}}"
    return number
