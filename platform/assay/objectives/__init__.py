"""Training objectives, one per file: how a batch becomes a loss."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
