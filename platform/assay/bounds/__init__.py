"""Certificates: proven properties of a network."""
