"""The sections of the page, one a file with its template; ``base`` says what a section is."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
