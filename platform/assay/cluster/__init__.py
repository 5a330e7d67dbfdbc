"""The only part of Assay that knows Ray."""
