"""`python -m fieldmark.faces.cli`."""

from fieldmark.faces.cli import main

main()
