"""Names to implementations, as strings: listing imports nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from traceback import extract_tb
from types import ModuleType
from typing import Any

from fieldmark.errors import BadInput, MissingExtra, NotFound, near_miss

_TYPED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an implementation stands, and what to say of it without importing it."""

    target: str
    """``package.module:attribute``, imported on first use."""
    summary: str
    """One line for lists."""
    needs: str = ""
    """The extra that it needs, such as `sam`; empty for none."""
    config: str = ""
    """``package.module:attribute`` of the class that validates its settings; empty for none."""


def is_typed(name: str) -> bool:
    """Whether a name is the place of somebody's own class, `package.module:Class`, rather than a registered one."""
    return _TYPED.fullmatch(name) is not None


class Registry:
    """Names to implementations. Listing imports nothing; `load` imports one.

    Classes of users are known by their place, `package.module:Class`, and only inside `lending`.
    """

    def __init__(self, kind: str, entries: dict[str, Entry]) -> None:
        self.kind = kind
        self._entries = dict(entries)
        self._lent: dict[str, Entry] = {}

    def add(self, name: str, entry: Entry) -> None:
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is already registered ({self._entries[name].target}).")
        self._entries[name] = entry

    @contextmanager
    def lending(self, names: Sequence[str]) -> Iterator[None]:
        """Know these classes of users inside: a user typed their names on this run, so they may be imported.

        The settings of a class are those that its attribute `config_class` checks. Other names are passed over.
        """
        before = self._lent
        own = {name: Entry(name, "", config=f"{name}.config_class") for name in names if is_typed(name)}
        self._lent = {**before, **own}
        try:
            yield
        finally:
            self._lent = before

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        return iter(sorted(self._entries.items()))

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._lent

    def entry(self, name: str) -> Entry:
        found = self._entries.get(name) or self._lent.get(name)
        if found is None:
            raise NotFound(self.kind, name, self._entries)
        return found

    def load(self, name: str) -> Any:
        return self._resolve(name, self.entry(name).target)

    def load_config(self, name: str) -> Any:
        return self._resolve(name, self.entry(name).config)

    def _resolve(self, name: str, target: str) -> Any:
        module, _, attributes = target.partition(":")
        found: Any = self._imported(name, module)
        for part in attributes.split("."):
            if name in self._lent and not hasattr(found, part):
                known = [own for own in vars(found) if not own.startswith("_")]
                raise BadInput(f"{self.kind} {name!r}: there is no {part!r} in it. {near_miss(part, known)}")
            found = getattr(found, part)
        return found

    def _imported(self, name: str, module: str) -> ModuleType:
        try:
            return import_module(module)
        except ModuleNotFoundError as error:
            if name in self._lent:
                raise BadInput(f"{self.kind} {name!r}: {_why_not(module, error.name or '')}") from error
            needs = self.entry(name).needs
            if not needs or (error.name or "").startswith("fieldmark"):
                raise
            raise MissingExtra(f"{self.kind} {name!r}", needs) from error
        except Exception as error:
            if name not in self._lent:
                raise
            raise BadInput(f"{self.kind} {name!r}: {_why_broken(module, error)}") from error


def _why_not(module: str, missing: str) -> str:
    """Why a user's module cannot be imported, and what to do."""
    if module == missing or module.startswith(f"{missing}."):
        return (
            f"there is no module {missing!r}. Begin in the folder that holds it, install it, or name its folder in "
            "PYTHONPATH."
        )
    return f"it imports {missing!r}, which is not installed. Install it."


def _why_broken(module: str, error: Exception) -> str:
    """What a user's module raised while it was imported, and where."""
    place = ""
    if isinstance(error, SyntaxError) and error.filename:
        place = f" in {error.filename}, line {error.lineno}"
    elif frames := extract_tb(error.__traceback__):
        place = f" in {frames[-1].filename}, line {frames[-1].lineno}"
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{module!r} cannot be imported: {type(error).__name__}: {said}{place}. Correct it."
