"""YAML, JSON and TOML text to plain values. What cannot be a recipe is refused: aliases, repeated keys, odd types."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Hashable
from typing import Any

import yaml

_PLAIN = (str, bool, int, float, type(None))
_DEEPEST = 50


class _RecipeLoader(yaml.SafeLoader):
    """Plain values only. An alias stands for a copy, so a few of them could stand for billions of values."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            line = self.line + 1
            raise ValueError(f"line {line} has an alias (*); write the value out")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST}, which no recipe is")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        _unique([key if isinstance(key, str) else str(key) for key in keys])
        return super().construct_mapping(node, deep=deep)


def parse_yaml(text: str) -> Any:
    """The value of a YAML text. Raises ValueError for anything that is not plain values."""
    try:
        value = yaml.load(text, Loader=_RecipeLoader)  # noqa: S506 - derived from SafeLoader
    except (yaml.YAMLError, RecursionError, AttributeError, LookupError) as error:
        raise ValueError(_first_lines(str(error))) from error
    return plain(value)


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def parse_toml(text: str) -> Any:
    """The table of a TOML text. Raises ValueError."""
    try:
        return plain(tomllib.loads(text))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


PARSERS: dict[str, Callable[[str], Any]] = {
    ".yaml": parse_yaml,
    ".yml": parse_yaml,
    ".json": parse_json,
    ".toml": parse_toml,
}
"""By the suffix of the file."""


def plain(value: Any) -> Any:
    """The same value, if JSON could hold it. Raises ValueError for dates, bytes, sets and keys that are no text."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is no text; put it in quotes")  # noqa: TRY004 - a value of a file
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if not isinstance(value, _PLAIN):
        raise ValueError(f"{str(value)[:40]!r} is a {type(value).__name__}, which no setting is; quote a text")  # noqa: TRY004
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _unique([key for key, _ in pairs])
    return dict(pairs)


def _unique(keys: list[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise ValueError(f"the key {key!r} stands there twice; keep one")
        seen.add(key)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number that a setting can have")


def _first_lines(text: str) -> str:
    return " ".join(text.split())[:300]
