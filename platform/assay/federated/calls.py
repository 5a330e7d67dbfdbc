"""Calls of a round: which worker trains which client, and what happens when a worker dies or a client hangs."""

from collections.abc import Iterable, Mapping, Sequence

import torch

from assay.executors import Host
from assay.federated.exact_sum import ExactSum, FixedPoint
from assay.federated.messages import Assignment, Replies, Round
from assay.federated.record import Failure
from assay.federated.state import ClientState, ClientStates
from assay.recipes import Recipe

_GRACE = 30.0
"""Seconds beyond the deadline until a silent worker counts as dead: workers keep the deadline themselves."""


class Calls:
    """Sends rounds to the workers of a host.

    Args:
        host: of the workers.
        units: of each client, by the server's own count; the work is dealt by them.
        states: of the clients.
        scales: of the exact sums.
        recipe: says whether noise can be drawn again.
    """

    def __init__(
        self,
        host: Host,
        units: Sequence[int],
        states: ClientStates,
        *,
        scales: Mapping[str, FixedPoint],
        recipe: Recipe,
    ) -> None:
        self._host, self._units, self._states, self._scales = host, units, states, scales
        self._entropy = draws_entropy(recipe)

    def ask(self, order: Round, clients: Sequence[int]) -> Replies:
        """Sends a round to the workers.

        A worker that died is replaced, and its clients are asked once again; one with a client that hangs is replaced.

        Args:
            order: of the round.
            clients: that take part.

        Returns:
            The replies of all workers together.

        Raises:
            UserError: a mistake that every client reports, such as a δ that is too great.
        """
        together = Replies()
        left = list(clients)
        for attempt in (1, 2):
            if not left:
                break
            asked = self._assignments(left)
            longest = max(len(assignments) for assignments in asked.values())
            replies = self._host.call(asked, order, timeout=longest * order.deadline + _GRACE)
            left = []
            for place, assignments in asked.items():
                reply = replies.get(place)
                if isinstance(reply, Replies):
                    _join(together, reply, self._scales)
                    if reply.stuck:
                        self._host.restart(place)
                    continue
                self._host.restart(place)
                lost = [assignment.client for assignment in assignments]
                if attempt == 1:
                    left += lost
                    self._charge(lost)
                failure = Failure(cause="lost", reason=f"its worker was lost: {reply!r}")
                together.failures |= dict.fromkeys(lost, failure)
        if together.refusal is not None:
            raise together.refusal
        for client in together.reports.keys() | together.singles.keys() | together.without.keys():
            together.failures.pop(client, None)
        self._charge(together.failures)
        return together

    def _assignments(self, clients: Sequence[int]) -> dict[int, list[Assignment]]:
        """Deals clients to workers such that each has about as many records: the largest first, to the least loaded."""
        load = [0] * self._host.places
        dealt: dict[int, list[Assignment]] = {}
        for client in sorted(clients, key=lambda number: (-self._units[number - 1], number)):
            place = load.index(min(load))
            load[place] += self._units[client - 1]
            dealt.setdefault(place, []).append(Assignment(client=client, state=self._states.get(client)))
        return dealt

    def _charge(self, clients: Iterable[int]) -> None:
        """Counts a round that was not used in its clients' accounts, where its noise cannot be drawn again."""
        if self._entropy:
            charge_lost(self._states, clients)


def charge_lost(states: ClientStates, clients: Iterable[int]) -> None:
    """Counts a lost round in the accounts of its clients: they have drawn noise from entropy that is gone.

    Args:
        states: of the clients; changed.
        clients: their numbers.
    """
    for client in clients:
        state = states.get(client)
        state = ClientState() if state is None else state.copy()
        state.values["lost_rounds"] = int(state.values.get("lost_rounds", 0)) + 1
        states.put({client: state})


def draws_entropy(recipe: Recipe) -> bool:
    """Returns whether noise is drawn from entropy that nothing stores, so that a lost round cannot be repeated.

    Args:
        recipe: private or not.

    Returns:
        Whether it is.
    """
    return recipe.privacy is not None and recipe.privacy.noise == "entropy"


def _join(together: Replies, reply: Replies, scales: Mapping[str, FixedPoint]) -> None:
    """Adds the replies of one worker to those of the others."""
    together.reports |= reply.reports
    together.failures |= reply.failures
    together.states |= reply.states
    together.scalars |= reply.scalars
    together.singles |= reply.singles
    together.buffers |= reply.buffers
    together.without |= reply.without
    together.refusal = together.refusal or reply.refusal
    if reply.counters:
        together.counters = [
            max(pair) for pair in zip(together.counters or reply.counters, reply.counters, strict=True)
        ]
    for name, (total, weight) in reply.sums.items():
        exact = ExactSum(len(total), scales[name])
        exact.join(*together.sums.get(name, (torch.zeros_like(total), 0.0)))
        exact.join(total, weight)
        together.sums[name] = (exact.total, exact.weight)
