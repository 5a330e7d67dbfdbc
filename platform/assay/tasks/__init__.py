"""Tasks, one a file: what a target is, the loss of one record, when an answer is wrong, the metrics and the scores."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
