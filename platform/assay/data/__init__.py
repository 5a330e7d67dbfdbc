"""Data sets, one family a file, and how they are split."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
