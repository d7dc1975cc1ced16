"""The one database of a project: tables, durable transactions, the journal of changes, undo and redo.

Names are resolved on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldmark.core.lazy import lazy

_PUBLIC = {
    "Change": "fieldmark.store.database",
    "JournalEntry": "fieldmark.store.journal",
    "Store": "fieldmark.store.database",
    "is_network_folder": "fieldmark.store.places",
    "open_store": "fieldmark.store.database",
}
__all__ = sorted(_PUBLIC)

if TYPE_CHECKING:
    from fieldmark.store.database import Change as Change
    from fieldmark.store.database import Store as Store
    from fieldmark.store.database import open_store as open_store
    from fieldmark.store.journal import JournalEntry as JournalEntry
    from fieldmark.store.places import is_network_folder as is_network_folder

__getattr__, __dir__ = lazy(_PUBLIC, globals())
