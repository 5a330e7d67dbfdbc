"""Releases from a study: reserved before training, charged once, and refused beyond the budget."""
