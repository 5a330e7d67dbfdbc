"""Explanation methods, one per file. The author writes ``attribute``; ``explain.base`` checks the result."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
