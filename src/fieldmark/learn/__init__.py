"""The one training path: phases that yield events, a state that goes through the disk."""

from fieldmark.learn.engine import fit

__all__ = ["fit"]
