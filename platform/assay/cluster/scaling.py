"""How many Ray Train workers a training has: a fixed number, or as many as the cluster has room for, within bounds."""

import re
from dataclasses import dataclass

from assay.errors import UserError


@dataclass(frozen=True, kw_only=True)
class WorkerRange:
    """Least and greatest number of workers of a training."""

    least: int
    most: int

    @classmethod
    def of(cls, workers: "int | WorkerRange") -> "WorkerRange":
        """Returns a range; a number stands for itself alone.

        Args:
            workers: number of workers, or a range of it.
        """
        return workers if isinstance(workers, WorkerRange) else cls(least=workers, most=workers)

    @classmethod
    def parse(cls, text: str) -> "WorkerRange":
        """Reads a number of workers or a range.

        Args:
            text: such as ``4``, or ``2:8`` for from 2 to 8.

        Returns:
            The range.

        Raises:
            UserError: it is neither, or the range is empty.
        """
        found = re.fullmatch(r"\s*(\d{1,6})\s*(?::\s*(\d{1,6})\s*)?", text)
        least, most = (0, 0) if found is None else (int(found[1]), int(found[2] or found[1]))
        if not 1 <= least <= most:
            raise UserError(
                f"--workers {text!r}: give a number of workers from 1, such as 4, or the least and the greatest, such "
                "as 2:8; the least comes first",
                setting="--workers",
                given=text,
                allowed="4, 2:8",
            )
        return cls(least=least, most=most)

    @property
    def is_elastic(self) -> bool:
        """Whether the number may change during a training."""
        return self.least < self.most

    def __str__(self) -> str:
        return f"{self.least}:{self.most}" if self.is_elastic else str(self.most)
