"""The one model format: a folder with a readable header (JSON) and plain tensors (safetensors)."""

from fieldmark.checkpoint.bundle import read_bundle, write_bundle
from fieldmark.checkpoint.header import FORMAT, ClassSpec, Header, Taught
from fieldmark.checkpoint.model import header_of, load, save

__all__ = ["FORMAT", "ClassSpec", "Header", "Taught", "header_of", "load", "read_bundle", "save", "write_bundle"]
