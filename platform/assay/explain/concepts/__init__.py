"""Concepts whose influence on a network can be measured, one kind per file."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
