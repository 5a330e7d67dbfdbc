"""Text: where it comes from, and how its words become vectors."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
