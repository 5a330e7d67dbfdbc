"""Control maps, one kind per file: maps that look like explanations and do not depend on the answer to this record."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
