"""`python -m fieldmark`: the command line, where the folder of scripts is not on the path."""

from fieldmark.faces.cli import main

if __name__ == "__main__":
    main()
