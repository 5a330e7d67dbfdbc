"""The network model: how long federated rounds take on a given network, from counted bytes and measured seconds.

Three networks are named. What is published of them is cited; the rest is an assumption, and said to be one.

- ``hospital_lan``: departments of one hospital, on Gigabit Ethernet (IEEE 802.3ab: 1,000 Mbit/s both ways). Assumed:
  1 ms round trip.
- ``hospital_wan``: hospitals of a region, at 100 Mbit/s down and 50 up, the goal of the National Broadband Plan
  (Federal Communications Commission 2010, goal 1). Assumed: 20 ms round trip.
- ``clinic_dsl``: practices and small clinics, at 16 Mbit/s down and 2.4 up ("up to"), as Deutsche Telekom sells its
  MagentaZuhause S. It states that 80 % of the customers of its 16 Mbit/s lines get at least 9.8 (teltarif.de, news
  65143 of 2016), which fixes the spread of lines (``SPREAD_OF_DSL``). Assumed: 40 ms round trip.

Assumed in all: the server is connected at 1,000 Mbit/s, its link is shared equally when all clients send at once,
connections stay open, lines reach the stated rate at once, and headers of Ethernet, IP and TCP (about 5 %) are left
out.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from assay import seeds
from assay.errors import DataError

SPREAD_OF_DSL = math.log(16 / 9.8) / float(special.ndtri(0.9))
"""σ of a line's slowdown exp(σ|z|), z standard normal: 80 % of all |z| are below the normal quantile of 0.9."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """How clients and their server are connected."""

    title: str
    down: float
    """Rate from the server to a client, in bit/s."""
    up: float
    """Rate from a client to the server, in bit/s."""
    round_trip: float
    """Seconds; half of it passes before a message begins to arrive."""
    spread: float = 0.0
    """σ of the slowdown of a client's line, exp(σ|z|) ≥ 1: a line is never faster than it was sold. 0: all alike."""
    server: float = 1e9
    """Rate of the server's link, in bit/s each way, which all clients of a round share."""


NETWORKS: Mapping[str, Network] = {
    "hospital_lan": Network(title="one hospital (1 Gbit/s)", down=1e9, up=1e9, round_trip=0.001),
    "hospital_wan": Network(title="hospitals (100/50 Mbit/s)", down=100e6, up=50e6, round_trip=0.020),
    "clinic_dsl": Network(
        title="clinics (DSL, 16/2.4 Mbit/s)", down=16e6, up=2.4e6, round_trip=0.040, spread=SPREAD_OF_DSL
    ),
}


@dataclass(frozen=True, kw_only=True)
class RoundLoad:
    """What the clients of one round received, computed and sent."""

    clients: Sequence[int]
    """(n,) numbers of the clients that took part."""
    bytes_down: Sequence[int]
    """(n,) counted bytes that each received."""
    bytes_up: Sequence[int]
    """(n,) counted bytes that each sent."""
    compute_seconds: Sequence[float]
    """(n,) measured seconds that each computed."""

    def __post_init__(self) -> None:
        for name in ("bytes_down", "bytes_up", "compute_seconds"):
            values = np.asarray(getattr(self, name), float)
            if values.shape != (len(self.clients),) or not np.isfinite(values).all() or (values < 0).any():
                raise DataError(
                    f"{name} of a round of {len(self.clients)} clients is {getattr(self, name)}; give one number for "
                    "each client, finite and not negative",
                    setting=name,
                    given=getattr(self, name),
                    allowed=len(self.clients),
                )


@dataclass(frozen=True, kw_only=True)
class TrainingTime:
    """Duration of a training over all its rounds, one after the other."""

    seconds: float
    """Each round lasts until its last client has received, computed and sent."""
    compute_seconds: float
    """The same on a network that takes no time: each round lasts as long as its longest computation."""

    @property
    def communication_seconds(self) -> float:
        """What the network adds."""
        return self.seconds - self.compute_seconds

    @property
    def communication_share(self) -> float:
        """Fraction of the duration that the network adds; NaN without any duration."""
        return self.communication_seconds / self.seconds if self.seconds else math.nan

    @property
    def added(self) -> float:
        """What the network adds, as a fraction of the computation: 0.4 is 40 % more time; NaN without computation."""
        return self.communication_seconds / self.compute_seconds if self.compute_seconds else math.nan


def slowdowns(network: Network, clients: Sequence[int], *, seed: int) -> np.ndarray:
    """Draws how many times slower each client's line is than the stated rate; a client keeps its line.

    Args:
        network: with its spread.
        clients: (n,) numbers.
        seed: of the lines. The same client has the same line in every round, and in every study with this seed.

    Returns:
        (n,) factors, at least 1.
    """
    if not network.spread:
        return np.ones(len(clients))
    return np.exp(network.spread * np.abs([_line(seed, client) for client in clients]))


@lru_cache(maxsize=1 << 16)
def _line(seed: int, client: int) -> float:
    """Returns a client's draw of the standard normal distribution; kept, for it takes longer than the sum it enters."""
    return float(seeds.stream(seed, "line", client).standard_normal())


def client_seconds(network: Network, load: RoundLoad, slow: np.ndarray) -> np.ndarray:
    """Returns the time that each client needs for a synchronous round: receive, compute, send.

    A client's rate is that of its line, or an equal share of the server's link if that is less. Clients whose messages
    are shorter free their share early, so a round where the server's link is the bottleneck may be a little faster.

    Args:
        network: that connects them.
        load: of the round.
        slow: (n,) slowdown of each line.

    Returns:
        (n,) seconds.
    """
    share = network.server / max(1, len(load.clients))
    down = 8 * np.asarray(load.bytes_down, float) / np.minimum(network.down / slow, share)
    up = 8 * np.asarray(load.bytes_up, float) / np.minimum(network.up / slow, share)
    return np.asarray(down + np.asarray(load.compute_seconds, float) + up + network.round_trip)


def training_time(network: Network, rounds: Sequence[RoundLoad], *, seed: int) -> TrainingTime:
    """Returns the duration of a training on a network.

    Args:
        network: that connects clients and server.
        rounds: of the training; one without clients takes no time.
        seed: of the clients' lines.

    Returns:
        The duration, and how much of it is computation.
    """
    seconds = compute = 0.0
    for load in rounds:
        if len(load.clients):
            seconds += float(client_seconds(network, load, slowdowns(network, load.clients, seed=seed)).max())
            compute += float(np.max(load.compute_seconds))
    return TrainingTime(seconds=seconds, compute_seconds=compute)
