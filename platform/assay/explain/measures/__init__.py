"""Measures of explanations, one per file: how faithful a map is to the model that it explains."""
