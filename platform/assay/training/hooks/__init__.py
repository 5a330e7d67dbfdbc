"""Hooks: what a training does in addition to its steps, one hook a file."""
