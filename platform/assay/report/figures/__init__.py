"""Figures of the page, one family in each file. ``figure(view)`` returns None where there is nothing to draw."""
