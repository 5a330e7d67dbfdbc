"""The tables of the page beside the scorecard, one a file. Each takes the results; None where nothing is to show."""
