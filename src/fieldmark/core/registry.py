"""Names to implementations, as strings: listing imports nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fieldmark.errors import MissingExtra, NotFound


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


class Registry:
    """Names to implementations. Listing imports nothing; `load` imports one."""

    def __init__(self, kind: str, entries: dict[str, Entry]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def add(self, name: str, entry: Entry) -> None:
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is already registered ({self._entries[name].target}).")
        self._entries[name] = entry

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        return iter(sorted(self._entries.items()))

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def entry(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except KeyError:
            raise NotFound(self.kind, name, self._entries) from None

    def load(self, name: str) -> Any:
        return self._resolve(name, self.entry(name).target)

    def load_config(self, name: str) -> Any:
        return self._resolve(name, self.entry(name).config)

    def _resolve(self, name: str, target: str) -> Any:
        module, _, attribute = target.partition(":")
        try:
            return getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            needs = self.entry(name).needs
            if not needs or (error.name or "").startswith("fieldmark"):
                raise
            raise MissingExtra(f"{self.kind} {name!r}", needs) from error
