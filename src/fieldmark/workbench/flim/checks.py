"""What is refused before anything is done."""

from __future__ import annotations

from pathlib import Path

from fieldmark.errors import BadFile, BadInput


def refuse_torchvision(model: str | None, *, pretrained: bool) -> None:
    """Raise BadInput: networks that others trained come as files, not by the name of a library's."""
    if model is not None or pretrained:
        given = f"-tm {model}" if model is not None else "-pt"
        raise BadInput(
            f"{given} asks for a network of torchvision, which Fieldmark does not use. Leave it out: filters come from "
            "markers (-md)."
        )


def require_file(path: Path, flag: str) -> Path:
    """The path, if it is a file; BadFile, which names the flag, otherwise."""
    if not path.is_file():
        raise BadFile(path, f"{flag} wants a file, and there is none. Check the name.")
    return path


def require_folder(path: Path, flag: str) -> Path:
    """The path, if it is a folder; BadFile, which names the flag, otherwise."""
    if path.is_file():
        raise BadFile(path, f"{flag} wants a folder, and this is a file. Give the folder.")
    if not path.is_dir():
        raise BadFile(path, f"{flag} wants a folder, and there is none. Check the name.")
    return path
