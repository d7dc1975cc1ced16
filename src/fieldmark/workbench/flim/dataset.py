"""Data sets as the commands name them; the format stands with the collection."""

from fieldmark.collection.lids import LidsImage, read_dataset, read_split, stratified

__all__ = ["LidsImage", "read_dataset", "read_split", "stratified"]
