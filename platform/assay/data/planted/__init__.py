"""Synthetic records whose classes depend on known features, one modality a file: what is planted is returned by
``truth``."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
