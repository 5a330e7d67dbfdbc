"""Defences that drop training records before anything is learnt, one a file."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
