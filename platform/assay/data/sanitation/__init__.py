"""Defences that remove training records before training, one a file."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
