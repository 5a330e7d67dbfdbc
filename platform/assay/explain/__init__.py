"""Explanations: which inputs a prediction depends on, one family of methods per file."""
