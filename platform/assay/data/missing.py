"""Spellings of missing values in files, in lower case."""

MISSING = frozenset({"", "?", "na", "n/a", "nan", "#n/a", "null", "<na>", ".", "-", "--"})
"""Missing values in any column of a table."""
NO_NAME = MISSING | {"none", "nat"}
"""Missing names of patients: "none" is not a patient's name, but may be a category."""
NO_TEXT_LABEL = (MISSING | {"none"}) - {".", "-", "--"}
"""Missing labels of texts: minus signs and dots may be classes."""
