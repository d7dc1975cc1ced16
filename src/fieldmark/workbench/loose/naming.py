"""Where the model of another system's file is put: a model of other settings is never written over unasked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from re import fullmatch

from fieldmark.checkpoint import header_of
from fieldmark.errors import BadFile, BadInput
from fieldmark.workbench.project import refuse_nowhere

ASKED = "asked"
"""In a model's details: the fingerprint of the settings and folders that it was asked for with."""
MODEL = "model.json"
BESIDE = ("recipe.yaml", "history.csv", "report.html")
"""What is written beside a model's weights."""

_OTHER = "Choose another folder for the model, or another --name."


@dataclass(frozen=True, slots=True)
class Place:
    """A folder for a model.

    Args:
        wanted: The folder of the name that was typed, or that the file gives.
        asked: The fingerprint of the settings and folders of the fit.
        typed: Somebody chose that folder: an earlier model in it is replaced.
    """

    wanted: Path
    asked: str
    typed: bool

    def now(self) -> Path:
        """The folder, as models lie now: that of an earlier model of the same settings, or else the first free one.

        Of the name `unet` these are `unet`, `unet-2`, `unet-3`, ... Raises BadFile where the model of that
        name is damaged.
        """
        if self.typed:
            return self.wanted
        models = [folder for folder in (self.wanted, *self._numbered()) if _is_model(folder)]
        if same := [folder for folder in models if self._is_same(folder)]:
            return same[0]
        free = (folder for folder in self._names() if not (folder.exists() or folder.is_symlink()))
        return next(free) if self.wanted in models else self.wanted

    def _is_same(self, folder: Path) -> bool:
        """Whether a model was asked for with the same settings; one beside ours that cannot be read was not."""
        try:
            return header_of(folder).details.get(ASKED) == self.asked
        except BadFile:
            if folder == self.wanted:
                raise
            return False

    def told(self, folder: Path) -> list[str]:
        """A sentence where the model is put into another folder than the one of its name, or replaces another one."""
        if self.typed and _is_model(folder) and not self._is_same(folder):
            return [
                f"{folder} holds a model of other settings or images; when this one is learned, it takes its place. "
                "To keep the other one, stop here and choose another folder, or another --name."
            ]
        if folder == self.wanted:
            return []
        return [
            f"{self.wanted} holds a model of other settings or images, which stays; this one will be {folder}. "
            f"To replace the other one: --name {self.wanted.name}."
        ]

    def _names(self) -> Iterator[Path]:
        return (self.wanted.with_name(f"{self.wanted.name}-{number}") for number in count(2))

    def _numbered(self) -> list[Path]:
        """Models of this name with a number, in order."""
        found = [path.parent for path in self.wanted.parent.glob(f"*/{MODEL}")]
        begin = len(self.wanted.name) + 1
        named = [path for path in found if path.name.startswith(f"{self.wanted.name}-")]
        return sorted(
            (path for path in named if fullmatch(r"[1-9]\d{0,8}", path.name[begin:])),
            key=lambda path: int(path.name[begin:]),
        )


def _is_model(folder: Path) -> bool:
    return (folder / MODEL).exists()


def refuse_strangers(target: Path) -> None:
    """What is no model of ours is never overwritten. Raises BadInput, or BadFile for a damaged model."""
    refuse_nowhere(target, _OTHER)
    if _is_model(target):
        header_of(target)
    elif strange := [*(name for name in BESIDE if (target / name).exists()), *_weights_in(target)]:
        raise BadInput(
            f"{target} holds no model of Fieldmark, and {' and '.join(strange)} of something else, which would be "
            f"written over. {_OTHER}"
        )


def _weights_in(folder: Path) -> list[str]:
    """Files that saving a model would delete as weights of an earlier one; what a killed save left is ours."""
    named = (path.name for path in folder.glob("weights-*.safetensors"))
    return sorted(name for name in named if not fullmatch(r"weights-[0-9a-f]{16}\.safetensors", name))
