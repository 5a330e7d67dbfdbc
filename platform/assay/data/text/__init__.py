"""Text: sources, and embeddings of words as vectors."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
