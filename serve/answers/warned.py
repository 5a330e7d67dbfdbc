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
        The answers; ``warnings`` of an answer, such as of an explanation, follow those of its record.
    """
    for answer, warnings in zip(answers, records.warnings[first:], strict=False):
        if warnings:
            answer["warnings"] = [*warnings, *answer.get("warnings", ())]
    return answers
