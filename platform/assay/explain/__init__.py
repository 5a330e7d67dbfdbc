"""Explanations: which inputs a prediction depends on, and how faithful such a statement is."""
