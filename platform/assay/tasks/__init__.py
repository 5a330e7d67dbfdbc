"""Tasks, one per file: targets, the loss of one record, when an answer is wrong, metrics and scores."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
