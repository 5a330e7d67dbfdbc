"""Tables as hospitals have them: files of rows, columns of every kind, and what is learnt of them before a network."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
