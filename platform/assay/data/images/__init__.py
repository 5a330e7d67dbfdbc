"""Images, as (channels, height, width) with intensities from 0 to 1; one data set a file."""

from assay.registry import load_siblings

load_siblings(__name__, __path__)
