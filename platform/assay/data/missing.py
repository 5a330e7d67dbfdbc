"""Spellings of missing values in files, in lower case."""

MISSING = frozenset({"", "?", "na", "n/a", "nan", "#n/a", "null", "<na>", ".", "-", "--"})
"""In any column of a table."""
NO_NAME = MISSING | {"none", "nat"}
"""In place of a patient's name: no patient is called none, while a category may be."""
NO_TEXT_LABEL = (MISSING | {"none"}) - {".", "-", "--"}
"""In place of the label of a text: minus signs and dots may be classes there."""
