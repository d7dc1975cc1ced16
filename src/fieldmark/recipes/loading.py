"""Recipes from YAML, JSON or TOML files and `--set key=value`, with errors that name the key."""

from __future__ import annotations

import copy
import stat
from collections.abc import Iterator
from pathlib import Path
from reprlib import Repr
from typing import Any, TypeVar

from pydantic import AliasChoices, BaseModel, ValidationError

from fieldmark.errors import BadRecipe, near_miss
from fieldmark.recipes.places import parts_of

M = TypeVar("M", bound=BaseModel)

MAX_RECIPE_BYTES = 1 << 18
_MOST_PROBLEMS = 5
_MOST_ITEMS = 1000
"""Items of a list among which true and false are looked for; longer ones are refused for their length."""
_LONGEST = 80
_PLAIN = {
    "tuple_type": "Input should be a list, such as [1, 2]",
    "list_type": "Input should be a list, such as [1, 2]",
    "model_type": "Input should be a group of keys and values",
}
"""What pydantic says in words of Python, as users of YAML call it."""
_SHOWN = Repr()  # of a million parts only the first are written out
_SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxdict = _SHOWN.maxset = _SHOWN.maxstring = _LONGEST
_SHOWN.maxother = _SHOWN.maxlong = _LONGEST


def load_recipe(path: Path) -> dict[str, Any]:
    """The settings in a YAML, JSON or TOML file (told by its suffix, YAML otherwise), unchecked.

    Raises:
        BadRecipe: It cannot be read, or holds something else than plain keys and values; the message names the file.
    """
    from fieldmark.recipes.texts import PARSERS, parse_yaml

    text = _text(path)
    try:
        values = PARSERS.get(path.suffix.lower(), parse_yaml)(text)
    except ValueError as error:
        raise BadRecipe(f"{path}: cannot be parsed ({error}). Correct the file.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise BadRecipe(f"{path}: holds a {type(values).__name__}, not keys and values. Write `key: value` lines.")
    return values


def parse_override(text: str) -> tuple[list[str], Any]:
    """`descend.lr=0.01` as its path and its value (YAML: numbers, lists, true, null, text)."""
    from fieldmark.recipes.texts import parse_yaml

    key, equals, value = text.partition("=")
    path = key.strip().replace("-", "_").split(".")
    if not equals or not all(path):
        raise BadRecipe(f"--set {_short(text)}: wanted KEY=VALUE, for example --set descend.lr=0.01.")
    try:
        return path, parse_yaml(value)
    except ValueError as error:
        raise BadRecipe(f"--set {_short(text)}: the value cannot be parsed ({error}). Put text in quotes.") from error


def with_overrides(values: dict[str, Any], overrides: tuple[str, ...]) -> dict[str, Any]:
    """A copy of `values` with each `KEY=VALUE` set; a number in a key is a place in a list, from 0."""
    result = copy.deepcopy(values)
    for text in overrides:
        path, value = parse_override(text)
        _set(result, path, value, text)
    return result


def validate(model: type[M], values: dict[str, Any], *, where: str = "", source: object = "") -> M:
    """Check settings; an unknown key names its path and the near miss, and true and false are no numbers.

    Args:
        model: The class that knows the keys.
        values: Settings as read.
        where: Path of `values` in the whole recipe, such as `net`.
        source: The file that they come from, as the user typed it; empty where there is none.
    """
    begin = (where,) if where else ()
    truths, found = dict(_truths(model, values, begin)), []
    try:
        made = model.model_validate(values)
    except ValidationError as error:
        every = error.errors(include_url=False, include_context=False)
        found = [item for item in every if (*begin, *map(str, item["loc"])) not in truths]
    else:
        if not truths:
            return made
    lines = [f"{'.'.join(path)}: {said}." for path, said in truths.items()]
    lines += [_line(model, item, where) for item in found[:_MOST_PROBLEMS]]
    beyond = len(truths) + len(found) - _MOST_PROBLEMS
    more = [f"And {beyond} more."] if beyond > 0 else []
    named = [f"{source}:"] if source else []
    raise BadRecipe(" ".join([*named, *lines[:_MOST_PROBLEMS], *more, "Correct the recipe."]))


def _truths(annotation: Any, value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Where true or false stands for a number, as which it would be taken for 1 or 0; and what is wanted there.

    Args:
        annotation: What may stand here: a model, or the type of a field.
        value: What stands here, as read.
        path: Where.
    """
    parts = [*parts_of(annotation)]
    if isinstance(value, bool):
        if (int in parts or float in parts) and bool not in parts and Any not in parts:
            yield path, f"wanted a {'' if float in parts else 'whole '}number, found {str(value).lower()}"
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value[:_MOST_ITEMS]):
            yield from _truths(annotation, item, (*path, str(number)))
    elif isinstance(value, dict):
        models = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
        for key, item in value.items():
            known = [_field(model, key) for model in models] if models else [annotation]
            if inner := [one for one in known if one is not None]:
                yield from _truths(inner[0], item, (*path, str(key)))


def _field(model: type[BaseModel], key: object) -> Any:
    """What may stand under a key of a model; None where it has no such key."""
    for name, field in model.model_fields.items():
        others = field.validation_alias
        if key in (name, field.alias, *(others.choices if isinstance(others, AliasChoices) else ())):
            return field.annotation
    return None


def _text(path: Path) -> str:
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise BadRecipe(f"{path}: is no regular file. Name a YAML, JSON or TOML file.")
        if facts.st_size > MAX_RECIPE_BYTES:
            raise BadRecipe(f"{path}: larger than {MAX_RECIPE_BYTES} bytes, which no recipe is. Name a recipe file.")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadRecipe(f"{path}: there is no such file. Name a YAML, JSON or TOML file.") from None
    except UnicodeDecodeError as error:
        raise BadRecipe(f"{path}: is not UTF-8 text (byte {error.start}). Name a YAML, JSON or TOML file.") from error
    except OSError as error:
        raise BadRecipe(f"{path}: cannot be read ({error.strerror}). Name a YAML, JSON or TOML file.") from error


def _set(values: dict[str, Any], path: list[str], value: Any, text: str) -> None:
    place: Any = values
    for key in path[:-1]:
        place = place[_place(place, key, text)] if isinstance(place, list) else place.setdefault(key, {})
        if not isinstance(place, dict | list):
            raise BadRecipe(f"--set {_short(text)}: {key!r} is a value, not a group of keys. Shorten the key.")
    place[_place(place, path[-1], text) if isinstance(place, list) else path[-1]] = value


def _place(values: list[Any], key: str, text: str) -> int:
    if key.isascii() and key.isdecimal() and len(key) < 10 and int(key) < len(values):
        return int(key)
    raise BadRecipe(
        f"--set {_short(text)}: {key!r} is no place in a list of {len(values)}. "
        "Count from 0, or set the whole list: KEY=[...]."
    )


def _line(model: type[BaseModel], item: Any, where: str) -> str:
    """One problem, as a sentence."""
    location = [str(part) for part in item["loc"]]
    path = ".".join([where, *location] if where else location)
    if item["type"] == "extra_forbidden":
        return f"{path}: unknown key. {near_miss(location[-1], _known_keys(model, list(item['loc'])[:-1]))}"
    found = "" if item["type"] == "missing" else f" (found {_short(_SHOWN.repr(item['input']))})"
    said = _PLAIN.get(item["type"]) or item["msg"].removeprefix("Value error, ")
    return f"{path or 'recipe'}: {said}{found}."


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _known_keys(model: type[BaseModel], location: list[Any]) -> list[str]:
    """The keys that stand beside the wrong one: follow the path through nested models and lists of them."""
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int) or current is None:
            continue
        field = current.model_fields.get(str(part))
        current = _model_in(field.annotation) if field is not None else None
    return [field.alias or name for name, field in current.model_fields.items()] if current is not None else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
