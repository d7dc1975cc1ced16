"""Recipes from YAML, JSON or TOML files and `--set key=value`, with errors that name the key."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fieldmark.errors import BadRecipe, near_miss

M = TypeVar("M", bound=BaseModel)

MAX_RECIPE_BYTES = 1 << 20


def load_recipe(path: Path) -> dict[str, Any]:
    """The settings in a file, unchecked. Raises BadRecipe, which names the file."""
    import yaml

    try:
        if path.stat().st_size > MAX_RECIPE_BYTES:
            raise BadRecipe(f"{path}: larger than {MAX_RECIPE_BYTES} bytes, which no recipe is. Name a recipe file.")
        text = path.read_text(encoding="utf-8")
        values = _parse(path.suffix.lower(), text)
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecipe(f"{path}: cannot be read ({error}). Name a YAML, JSON or TOML file.") from error
    except (yaml.YAMLError, json.JSONDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadRecipe(f"{path}: cannot be parsed ({error}). Correct the file.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise BadRecipe(f"{path}: holds a {type(values).__name__}, not keys and values. Write `key: value` lines.")
    return values


def parse_override(text: str) -> tuple[list[str], Any]:
    """`descend.lr=0.01` as its path and its value (YAML: numbers, lists, true, null, text)."""
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise BadRecipe(f"--set {text}: wanted KEY=VALUE, for example --set descend.lr=0.01.")
    try:
        return key.strip().replace("-", "_").split("."), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise BadRecipe(f"--set {text}: the value cannot be parsed ({error}). Put text in quotes.") from error


def with_overrides(values: dict[str, Any], overrides: tuple[str, ...]) -> dict[str, Any]:
    """A copy of `values` with each `KEY=VALUE` set."""
    result = json.loads(json.dumps(values, default=str))
    for text in overrides:
        path, value = parse_override(text)
        _set(result, path, value, text)
    return dict(result)


def validate(model: type[M], values: dict[str, Any], *, where: str = "") -> M:
    """Check settings; an unknown key names its path and the near miss.

    Args:
        model: The class that knows the keys.
        values: Settings as read.
        where: Path of `values` in the whole recipe, such as `net`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_line(model, item, where) for item in error.errors()]
        raise BadRecipe("; ".join(lines) + ". Correct the recipe.") from None


def _parse(suffix: str, text: str) -> Any:
    import yaml

    if suffix == ".json":
        return json.loads(text)
    if suffix == ".toml":
        return tomllib.loads(text)
    return yaml.safe_load(text)


def _set(values: dict[str, Any], path: list[str], value: Any, text: str) -> None:
    place: Any = values
    for key in path[:-1]:
        place = place[int(key)] if isinstance(place, list) and key.isdigit() else place.setdefault(key, {})
        if not isinstance(place, dict | list):
            raise BadRecipe(f"--set {text}: {key!r} is a value, not a group of keys. Shorten the key.")
    if isinstance(place, list):
        place[int(path[-1])] = value
    else:
        place[path[-1]] = value


def _line(model: type[BaseModel], item: Any, where: str) -> str:
    location = [str(part) for part in item["loc"]]
    path = ".".join([where, *location] if where else location)
    if item["type"] == "extra_forbidden":
        return f"{path}: unknown key. {near_miss(location[-1], _known_keys(model, list(item['loc'])[:-1]))}".rstrip(".")
    found = "" if item["type"] == "missing" else f" (found {item['input']!r})"
    return f"{path or 'recipe'}: {item['msg']}{found}"


def _known_keys(model: type[BaseModel], location: list[Any]) -> list[str]:
    """The keys that stand beside the wrong one: follow the path through nested models and lists of them."""
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int) or current is None:
            continue
        field = current.model_fields.get(str(part))
        current = _model_in(field.annotation) if field is not None else None
    return list(current.model_fields) if current is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
