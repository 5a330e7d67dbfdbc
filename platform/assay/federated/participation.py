"""Who takes part in a round, drawn from the seed and the number of the round alone: a resumed run draws alike."""

from dataclasses import dataclass

import numpy as np

from assay import seeds
from assay.recipes import Federation


@dataclass(frozen=True, kw_only=True)
class Participants:
    """The clients of a round before training."""

    asked: tuple[int, ...]
    """Numbers of the clients that are there, in order."""
    absent: tuple[int, ...]
    """Numbers of the clients that were drawn and are not there, in order."""


def participants(federation: Federation, *, clients: int, seed: int, number: int) -> Participants:
    """Draws the clients of a round.

    Args:
        federation: sets participation and availability.
        clients: of the whole federation.
        seed: of the training.
        number: of the round, from 1.

    Returns:
        The clients. ``poisson`` may draw nobody.
    """
    everyone = np.arange(1, clients + 1)
    if federation.participation == "fraction":
        size = max(1, round(federation.share * clients))
        drawn = np.sort(seeds.stream(seed, "participants", number).choice(everyone, size=size, replace=False))
    elif federation.participation == "poisson":
        drawn = everyone[seeds.stream(seed, "participants", number).random(clients) < federation.share]
    else:
        drawn = everyone
    if federation.available == 1.0:
        return Participants(asked=tuple(map(int, drawn)), absent=())
    there = seeds.stream(seed, "available", number).random(clients) < federation.available
    return Participants(
        asked=tuple(int(client) for client in drawn if there[client - 1]),
        absent=tuple(int(client) for client in drawn if not there[client - 1]),
    )
