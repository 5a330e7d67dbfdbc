"""The figures of the page, one family a file. ``figure(view)``; None where there is nothing to draw."""
