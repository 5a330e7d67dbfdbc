"""Calls of a round: which worker trains which client, and what happens when a worker dies or a client hangs."""

from collections.abc import Iterable, Mapping, Sequence

import torch

from assay.errors import FederationError
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
        self._places = list(range(host.places))

    def ask(self, order: Round, clients: Sequence[int]) -> Replies:
        """Sends a round to the workers.

        A worker that died is replaced, and its clients are asked once again, one at a time. A worker with a client that
        hangs is replaced too.

        Args:
            order: of the round.
            clients: that take part.

        Returns:
            The replies of all workers together.

        Raises:
            UserError: a client reports a mistake of the user's, such as a δ that is too great for its records.
            FederationError: no worker is left.
        """
        together = Replies()
        lost = self._send(self._assignments(clients), order, together) if clients else []
        self._charge(lost)
        # One client a worker: one that ends its process takes no other with it again.
        while lost and together.refusal is None:
            now, lost = lost[: len(self._places)], lost[len(self._places) :]
            pairs = zip(self._places, now, strict=False)  # the last ones may be fewer than the workers
            self._send({place: [self._assignment(client)] for place, client in pairs}, order, together)
        if together.refusal is not None:
            raise together.refusal
        for client in together.reports.keys() | together.singles.keys() | together.without.keys():
            together.failures.pop(client, None)
        self._charge(together.failures)
        return together

    def _send(self, asked: Mapping[int, list[Assignment]], order: Round, together: Replies) -> list[int]:
        """Sends a round to some workers and adds their replies; returns the clients of those that died.

        Args:
            asked: clients by worker.
            order: of the round.
            together: takes the replies.
        """
        longest = max(len(assignments) for assignments in asked.values())
        replies = self._host.call(asked, order, timeout=longest * order.deadline + _GRACE)
        lost: list[int] = []
        for place, assignments in asked.items():
            reply = replies.get(place)
            if isinstance(reply, Replies):
                _join(together, reply, self._scales)
            else:
                clients = [assignment.client for assignment in assignments]
                failure = Failure(cause="lost", reason=f"its worker was lost: {reply!r}")
                together.failures |= dict.fromkeys(clients, failure)
                lost += clients
            if not isinstance(reply, Replies) or reply.stuck:
                self._restart(place)
        return lost

    def _restart(self, place: int) -> None:
        """Replaces a worker; one that cannot be replaced, as when its machine is gone, gets no more clients."""
        try:
            self._host.restart(place)
        except Exception as error:
            self._places.remove(place)
            if not self._places:
                raise FederationError(f"no worker is left: the last one could not be replaced ({error})") from error

    def _assignment(self, client: int) -> Assignment:
        return Assignment(client=client, state=self._states.get(client))

    def _assignments(self, clients: Sequence[int]) -> dict[int, list[Assignment]]:
        """Deals clients to workers such that each has about as many records: the largest first, to the least loaded."""
        load = dict.fromkeys(self._places, 0)
        dealt: dict[int, list[Assignment]] = {}
        for client in sorted(clients, key=lambda number: (-self._units[number - 1], number)):
            place = min(load, key=lambda one: (load[one], one))
            load[place] += self._units[client - 1]
            dealt.setdefault(place, []).append(self._assignment(client))
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
