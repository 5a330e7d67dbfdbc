"""Execution on Ray. No other part of the library imports Ray."""
