"""The errors that Fieldmark raises on purpose.

::

    FieldmarkError               error             base of them all
    |- BadInput                  bad-input         a value, a file or a request that cannot be used
    |  |- BadFile                bad-file          a file that cannot be read, is damaged or hostile
    |  |  `- TooLarge            too-large         a file that would need more memory than allowed
    |  |- BadRecipe              bad-recipe        a recipe with an unknown key or a wrong value
    |  |- InputMismatch          input-mismatch    an image that does not fit the model
    |  `- NothingLabelled        nothing-labelled  a fit was asked for without labels
    |- NotFound                  not-found         a name that nothing has
    |- Conflict                  conflict          a write based on a state that another write has changed
    |- InUse                     in-use            a folder that another run is writing into
    |- MissingExtra              missing-extra     an optional package that is not installed
    |- Cancelled                 cancelled         the user stopped a job
    `- WorkerFailed              worker-failed     a job's process ended without an answer

Every message has three parts: what was found, what was wanted, and what to do.
`code` is stable: it goes into JSON answers and events.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from errno import EDQUOT, ENOSPC

_MOST_NAMES = 40


class FieldmarkError(Exception):
    """Base of every error this package raises on purpose."""

    code = "error"


class BadInput(FieldmarkError, ValueError):
    """A value, a file or a request that cannot be used."""

    code = "bad-input"


class BadFile(BadInput):
    """A file that cannot be read; the message begins with its name as the user typed it."""

    code = "bad-file"

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = str(path)
        self.problem = problem


class TooLarge(BadFile):
    """A file that would need more memory than `--max-bytes` allows."""

    code = "too-large"


class BadRecipe(BadInput):
    """A recipe with an unknown key or a value of the wrong kind."""

    code = "bad-recipe"


class InputMismatch(BadInput):
    """An image that does not fit the model."""

    code = "input-mismatch"

    def __init__(self, *, model: str, expected: int, found: int, image: str) -> None:
        super().__init__(
            f"Model {model!r} was trained on {expected}-channel images, but {image!r} has "
            f"{found}. Use images with {expected} channels, or a model trained on {found}."
        )


class NothingLabelled(BadInput):
    """A fit was asked for without the labels that it needs."""

    code = "nothing-labelled"


class NotFound(FieldmarkError, LookupError):
    """A name that nothing has; the message offers the nearest one."""

    code = "not-found"

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"No {kind} is called {name!r}. {near_miss(name, known)}")


class NoProject(NotFound):
    """A folder that holds no project."""

    code = "no-project"

    def __init__(self, folder: object, more: str = "") -> None:
        text = f"{folder} holds no project (no fieldmark.toml). Name one with -C, or make one: fieldmark init."
        FieldmarkError.__init__(self, f"{text} {more}".rstrip())


class Conflict(FieldmarkError):
    """A write based on a state that another write has changed; nothing was written."""

    code = "conflict"

    def __init__(self, message: str, *, mine: object, theirs: object) -> None:
        super().__init__(message)
        self.mine = mine
        self.theirs = theirs


class InUse(FieldmarkError):
    """A folder that another run is writing into; nothing was begun."""

    code = "in-use"


class MissingExtra(FieldmarkError, ImportError):
    """An optional package that is not installed."""

    code = "missing-extra"

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed: pip install 'fieldmark[{extra}]'.")


class Cancelled(FieldmarkError):
    """The user stopped a job; what it had finished is on disk."""

    code = "cancelled"


class WorkerFailed(FieldmarkError):
    """A job's process ended without an answer."""

    code = "worker-failed"


def some(names: Iterable[str], most: int = _MOST_NAMES) -> str:
    """Names for an error; of many, the first few."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return f"{', '.join(listed[:most]) or 'none'}{more}"


def of_system(error: OSError) -> str:
    """What the system refused, of which file where it says so, and what to do."""
    if error.errno in (ENOSPC, EDQUOT):
        return (
            f"{error.filename or 'The disk'}: no space is left to write ({error.strerror}). Free some, then run the "
            "command again; what was finished is kept."
        )
    return f"{error.filename or 'The system'}: {error.strerror or error}. Check its name, permissions and the disk."


def near_miss(name: str, known: Iterable[str]) -> str:
    """A sentence that helps with a misspelt name: the nearest known one, or the first few of them."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known: {some(names)}."
