"""How the manual is built; `make docs` turns every warning into an error."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # for tools.cli_reference

from tools import cli_reference  # noqa: E402

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "Fieldmark"
copyright = "The Fieldmark authors"  # noqa: A001 - the name that Sphinx reads
release = version = installed_version("fieldmark")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "parts"]  # parts are included by pages

default_role = "code"  # docstrings write `code` with single backticks

html_theme = "furo"
html_title = "Fieldmark"
html_show_sourcelink = False

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_use_rtype = False


def setup(app: Sphinx) -> None:
    """Write the command reference before the pages are read."""
    cli_reference.main(HERE / "_build" / "commands.md")
    app.add_css_file("pages.css")


html_static_path = ["_static"]
