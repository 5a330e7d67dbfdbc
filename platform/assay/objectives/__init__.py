"""How a batch becomes a loss, one way a file."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
