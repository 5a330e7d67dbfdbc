"""Served models by name and version: what is served, and the versions that a replica has loaded."""
