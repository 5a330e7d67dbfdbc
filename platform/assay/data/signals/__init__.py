"""Signals, as (channels, samples); one data set a file."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
