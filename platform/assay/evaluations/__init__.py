"""What is asked of a trained model, one question a file; the rules of evidence in ``checks``."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
