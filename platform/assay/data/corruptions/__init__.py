"""Corruptions of records as in clinical practice, one modality a file."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
