"""The command line: a lazy group, so that help imports no command."""

from fieldmark.faces.cli.main import main

__all__ = ["main"]
