"""Tables of the page in addition to the scorecard, one in each file; None where there is nothing to show."""
