"""Progress of a job as lines that a program reads, beside what people read, where ``ASSAY_PROGRESS=lines`` asks for it.

``jobs.submit`` sets the variable for the jobs that it sends, and shows the lines as one line that is rewritten. A line is
a mark and a JSON object: ``::assay-progress {"done": 3, "total": 10, "doing": "wdbc · pgd · fold 2", "seconds_left": 42.0}``.
"""

import json
import math
import os
from typing import Any, NamedTuple

VARIABLE = "ASSAY_PROGRESS"
MARK = "::assay-progress "


class Progress(NamedTuple):
    """How far a job is."""

    done: int
    """Finished pieces of work, such as trials."""
    total: int
    """All pieces; 0 if their number is not known yet."""
    doing: str
    """What is being done, or was done last."""
    seconds_left: float | None = None
    """Until the end, as estimated; None if it is not known."""


def lines_wanted() -> bool:
    """Returns whether the environment asks for progress as lines."""
    return os.environ.get(VARIABLE) == "lines"


def as_line(progress: Progress) -> str:
    """Returns progress as one line of text, without its end.

    Args:
        progress: how far the job is.

    Returns:
        The line.
    """
    left = progress.seconds_left
    known = progress._replace(seconds_left=left if left is not None and math.isfinite(left) else None)
    return MARK + json.dumps(known._asdict(), ensure_ascii=False)


def read_line(line: str) -> Progress | None:
    """Returns the progress that a line states, or None if it is any other text.

    Args:
        line: a line of a job's log.

    Returns:
        The progress, or None.
    """
    if not line.startswith(MARK):
        return None
    try:
        stated = json.loads(line.removeprefix(MARK))
        progress = Progress(**stated)
    except (TypeError, ValueError):
        return None
    return progress if _valid(progress) else None


def _valid(progress: Progress) -> bool:
    def number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0

    counts = all(number(value) and isinstance(value, int) for value in (progress.done, progress.total))
    left = progress.seconds_left is None or number(progress.seconds_left)
    return counts and left and isinstance(progress.doing, str)
