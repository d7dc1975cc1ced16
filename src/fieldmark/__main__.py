"""`python -m fieldmark`: the command line."""

from fieldmark.faces.cli import main

main()
