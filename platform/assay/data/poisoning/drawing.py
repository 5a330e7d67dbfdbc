"""Selects the records that an attacker changes."""

import numpy as np

from assay.errors import DataError


def drawn(
    attack: str, share: float, candidates: np.ndarray, given: int, *, among: str, generator: np.random.Generator
) -> np.ndarray:
    """Returns the positions of an exact fraction of all records, drawn from those that the attack may use.

    Args:
        attack: its name, for the error.
        share: fraction of the training records.
        candidates: (m,) positions.
        given: number of training records.
        among: description of the candidates, for the error.
        generator: of the draw.

    Returns:
        Positions of the drawn records.

    Raises:
        DataError: that fraction is less than one record, or more than there are candidates.
    """
    wanted = round(share * given)
    if wanted < 1:
        raise DataError(
            f"{attack}: share is {share:g}, and of {given} training records that is none; "
            f"a share of {1 / given:.2g} takes one",
            setting=f"{attack}.share",
            given=share,
            allowed=1 / given,
        )
    if wanted > len(candidates):
        raise DataError(
            f"{attack}: share is {share:g}, which is {wanted} of {given} training records, and there are "
            f"{len(candidates)} {among}; "
            + (f"give a share of at most {len(candidates) / given:.2g}" if len(candidates) else "leave it out"),
            setting=f"{attack}.share",
            given=share,
            allowed=len(candidates) / given,
        )
    return generator.permutation(candidates)[:wanted]
