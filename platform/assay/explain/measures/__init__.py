"""Measures of explanations, one per file: how faithful a map is to the model that it explains."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
