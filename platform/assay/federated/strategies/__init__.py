"""Strategies, one a file: how the server combines the clients' updates of a round into new weights."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
