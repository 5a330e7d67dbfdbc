"""What the server and its workers send each other in a round."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from assay.errors import UserError
from assay.federated.client import Report
from assay.federated.exact_sum import FixedPoint
from assay.federated.packing import Packed
from assay.federated.record import Failure
from assay.federated.state import ClientState


@dataclass(frozen=True, kw_only=True)
class Round(Packed):
    """What the server sends to every worker in a round."""

    number: int
    weights: Tensor
    """(k,) shared trainable parameters, in the network's type."""
    buffers: Mapping[str, Tensor]
    """Buffers that the server has joined; empty where clients keep their own."""
    sent: Mapping[str, Tensor]
    """Vectors of the strategy; see ``ServerState.sent``."""
    scales: Mapping[str, FixedPoint]
    """Scale of each exact sum: ``update``, ``buffers`` and the strategy's vectors."""
    deadline: float
    """Seconds in which a client must answer, from its own start."""
    single: bool
    """Whether the server needs each update."""
    last: bool = False
    """Whether each client's own model is asked for instead of an update."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A client that a worker is to train in a round."""

    client: int
    state: ClientState | None
    """What it kept, None if it never took part."""


@dataclass(kw_only=True)
class Replies(Packed):
    """What a worker returns: sums over its clients, and each client's report."""

    reports: dict[int, Report] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)
    """By client whose update is not in the sums."""
    refusal: UserError | None = None
    """An error of the user's, such as a δ that is too great for a client; it ends the training."""
    states: dict[int, ClientState] = field(default_factory=dict)
    sums: dict[str, tuple[Tensor, float]] = field(default_factory=dict)
    """Exact sum and sum of weights by name."""
    scalars: dict[int, dict[str, float]] = field(default_factory=dict)
    counters: list[int] = field(default_factory=list)
    """Greatest number of batches that each layer of batch norm has seen."""
    singles: dict[int, Tensor] = field(default_factory=dict)
    """Each client's update, or its own model's weights, where they were asked for."""
    buffers: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    """Buffers of each client's own model, where it was asked for."""
    without: dict[int, str] = field(default_factory=dict)
    """Reason by client that has no model of its own, where it was asked for."""
    stuck: bool = False
    """Whether a client is still training; the worker must be replaced, which ends it."""
