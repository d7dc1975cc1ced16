"""Checks of the house that no ready-made tool does; run as `python -m tools.NAME`."""
