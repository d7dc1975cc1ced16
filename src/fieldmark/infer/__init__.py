"""The one inference path: a plan of tiles, a forward, a sink."""
