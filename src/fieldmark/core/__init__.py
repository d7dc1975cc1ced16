"""The vocabulary that every room shares: geometry, axes, events, seeds, names, files."""
