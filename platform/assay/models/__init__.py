"""Models, one family a file. Each is a registered description that builds a fresh network."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
