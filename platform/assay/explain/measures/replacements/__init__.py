"""Replacements of removed features, one kind per file. They are the same for all explanation methods."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
