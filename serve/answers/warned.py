"""Warnings about records, beside what is answered of them."""

from typing import Any

from serve.inputs.records import Records


def warned(answers: list[dict[str, Any]], records: Records, *, first: int = 0) -> list[dict[str, Any]]:
    """Adds the warnings about records to what is answered of them.

    Args:
        answers: of consecutive records; changed.
        records: of the call.
        first: number of the first of them.

    Returns:
        The answers; only those have ``warnings`` whose records have some.
    """
    for answer, warnings in zip(answers, records.warnings[first:], strict=False):
        if warnings:
            answer["warnings"] = list(warnings)
    return answers
