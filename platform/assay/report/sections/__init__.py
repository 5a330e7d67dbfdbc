"""Sections of the page, one in each file with its template; ``base`` defines a section."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
