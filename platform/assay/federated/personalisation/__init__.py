"""Personalisation, one method a file: models that fit each client."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
