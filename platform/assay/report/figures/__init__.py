"""The figures of the page, one family a file. Each takes the results; None where there is nothing to draw."""
