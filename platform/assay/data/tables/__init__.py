"""Clinical tables: reading files, kinds of columns, and preprocessing that is learnt from training records."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
