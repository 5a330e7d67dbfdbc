"""Attacks, one per file. The author of an attack writes ``perturb``; ``base`` verifies the result."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
