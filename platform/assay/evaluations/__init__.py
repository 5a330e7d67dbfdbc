"""Evaluations of a trained model, one in each file; ``checks`` contains the rules of evidence."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
