"""Transforms of a client's update before it is sent, one a file, and the pipeline that applies them in order."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
