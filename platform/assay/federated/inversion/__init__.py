"""Gradient inversion: what an honest-but-curious server reads from the update of one client."""
