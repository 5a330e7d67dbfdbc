"""Attacks, one a file. The author writes ``perturb``; the wrapper in ``base`` verifies what comes back."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
