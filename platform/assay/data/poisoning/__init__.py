"""Poisoning attacks on the training data, one attack a file."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
