"""The actors of a pool: how many there should be, where they run, and what becomes of those that are lost."""

import itertools
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from assay.cluster.resources import (
    Node,
    Reservation,
    equal_share,
    gpus_may_come,
    is_alive,
    living_nodes,
    refuse_impossible,
)
from assay.cluster.waiting import WAIT, Wait, tell
from assay.cluster.worker import Worker
from assay.errors import UserError

LOOK = 5.0
"""Seconds between two looks at the nodes of the cluster."""
_STARTS = 5
"""Starts in a row that may fail on living nodes before the pool gives up."""


@dataclass(eq=False)
class Slot:
    """An actor of a pool."""

    place: int
    """Its number, which its successors keep."""
    actor: Any
    reservation: Reservation
    node: str = ""
    """Id of its node; empty until it has started."""


@dataclass(frozen=True, kw_only=True)
class PoolSettings:
    """How many workers a pool has, and what each reserves."""

    workers: int | None = None
    """None for as many as fit on the nodes that are there."""
    cpus: int = 1
    gpus: float | None = None
    """A share or a whole number for each; None for an equal share where the cluster has GPUs."""
    wait: float = WAIT
    """Seconds to wait for the first worker."""


class Pool:
    """Actors that are started, replaced, added and dropped as the nodes of the cluster come and go.

    It has no worker before ``refill``. On a cluster with GPUs it may have workers without a GPU too, for items that
    are computed on the CPU: see ``with_cpu_items`` and ``with_gpu_items``.

    Args:
        settings: of the pool.
        board: name of the actor to which workers report progress.
        grows: whether nodes may join the cluster; not a Ray that this process has started on its machine.
    """

    def __init__(self, settings: PoolSettings, board: str, *, grows: bool) -> None:
        self._settings, self._board = settings, board
        nodes = living_nodes()
        gpus = settings.gpus
        if gpus is None:
            gpus = equal_share(nodes, workers=settings.workers, cpus=settings.cpus)
            if not gpus and grows and gpus_may_come():
                tell(
                    "no machine of the cluster has a GPU now, so workers reserve none; give --gpus-per-trial to use "
                    "machines with GPUs, which the cluster can start"
                )
        self.main = Reservation(cpus=settings.cpus, gpus=gpus)
        """What the workers reserve that run any item."""
        self.bare = Reservation(cpus=settings.cpus)
        """What the workers without a GPU reserve."""
        refuse_impossible(self.main, nodes, grows=grows)
        self.slots: dict[int, Slot] = {}
        """Every actor by its place, whether it has started or not."""
        self.with_cpu_items = False
        """Whether there are items that a worker without a GPU can run."""
        self.with_gpu_items = True
        """Whether there are items, or may come, that only a worker with a GPU can run, where there are any."""
        self._surplus = 0
        """Workers without a GPU that hold a place which others need; each ends once it is idle."""
        self._failed_starts = 0
        self._wait: Wait | None = None
        self._looked = time.monotonic()
        self._places = itertools.count()

    @property
    def has_gpus(self) -> bool:
        """Whether the workers that run any item reserve GPUs."""
        return self.main.gpus > 0

    @property
    def has_started(self) -> bool:
        """Whether any worker has started that can run what is left; it may still be busy with an earlier map."""
        return any(slot.node for slot in self.slots.values() if slot.reservation in (self.main, self._needed))

    @property
    def _needed(self) -> Reservation:
        """What a worker reserves at least that can run everything that is left."""
        return self.main if self.with_gpu_items or not self.with_cpu_items else self.bare

    def targets(self, nodes: list[Node]) -> dict[Reservation, int]:
        """Returns how many workers of each kind there should be.

        Args:
            nodes: resources of the living nodes.

        Returns:
            Numbers by what a worker reserves. There is at least one worker that can run what is left: while none fits,
            its pending start is what an autoscaler starts a node for.
        """
        workers = self._settings.workers
        fit = sum(self.main.fits(node) for node in nodes)
        if not (self.with_cpu_items and self.has_gpus):
            none = {self.bare: 0} if self.has_gpus else {}
            return {self.main: max(fit, 1) if workers is None else workers, **none}
        room = sum(self.bare.fits(node) for node in nodes)
        if not self.with_gpu_items:
            # Those with a GPU that run already are kept: they can run items without one too.
            kept = sum(slot.node != "" for slot in self.slots.values() if slot.reservation == self.main)
            return {self.main: kept, self.bare: max(room - kept, int(not kept)) if workers is None else workers - kept}
        main = max(fit if workers is None else min(fit, workers), 1)
        # A worker with a GPU for which there is no room yet takes no CPU from the others.
        left = max(room - min(main, fit), 0)
        return {self.main: main, self.bare: left if workers is None else min(left, workers - main)}

    def resize(self, nodes: list[Node]) -> list[Slot]:
        """Starts the workers that are missing, and drops surplus ones that have not started.

        Args:
            nodes: resources of the living nodes.

        Returns:
            The new workers.
        """
        added = []
        for reservation, target in self.targets(nodes).items():
            present = [slot for slot in self.slots.values() if slot.reservation == reservation]
            added += [self._start(reservation) for _ in range(target - len(present))]
            pending = [slot for slot in present if not slot.node]
            surplus = max(len(present) - target, 0)
            for slot in pending[:surplus]:
                self.drop(slot)
            if reservation != self.main:
                self._surplus = max(surplus - len(pending), 0)
        return added

    def drop_surplus(self, idle: list[Slot]) -> None:
        """Ends workers without a GPU that run nothing, where others are to have their room.

        Args:
            idle: workers without a GPU that run nothing; those that end are taken out.
        """
        while idle and self._surplus:
            self._surplus -= 1
            self.drop(idle.pop())

    def look(self) -> list[Slot]:
        """Adapts the pool to the nodes of the cluster, if it is time to.

        Returns:
            The new workers.
        """
        return self.refill() if time.monotonic() - self._looked >= LOOK else []

    def started(self, slot: Slot, node: str) -> None:
        """Stores that a worker has started.

        Args:
            slot: of the worker.
            node: id of its node.
        """
        slot.node = node
        self._failed_starts, self._wait = 0, None

    def wait(self) -> None:
        """Called again and again while no worker has started: prints what is waited for.

        Raises:
            UserError: the deadline has passed.
        """
        if self._wait is None:
            self._wait = Wait(self._needed, len(self.slots), self._settings.wait)
        self._wait.look()

    def lost(self, slot: Slot, error: RayError) -> bool:
        """Drops a worker that has died or cannot be reached.

        Args:
            slot: of the worker.
            error: that Ray raised.

        Returns:
            Whether its node was lost, or the connection to it: then the item that it ran is not to blame.

        Raises:
            UserError: workers cannot start on this cluster.
        """
        node_lost = is_node_loss(error) or (slot.node != "" and not is_alive(slot.node))
        self.drop(slot)
        if not slot.node and isinstance(error, RayActorError) and not node_lost:
            self._failed_starts += 1
            if error.actor_init_failed or self._failed_starts >= _STARTS:
                raise UserError(
                    "a worker could not start. Is assay installed on the cluster? If not, submit with "
                    f"jobs.submit --ship-assay. Ray says: {error}"
                ) from None
        return node_lost

    def drop(self, slot: Slot) -> None:
        """Ends a worker.

        Args:
            slot: of the worker.
        """
        if self.slots.get(slot.place) is slot:
            del self.slots[slot.place]
        ray.kill(slot.actor)

    def replace(self, place: int) -> Slot:
        """Ends the worker at a place and starts another one there.

        Args:
            place: its number.

        Returns:
            The new worker, which may not have started yet.
        """
        old = self.slots[place]
        self.drop(old)
        return self._start(old.reservation, place)

    def close(self) -> None:
        """Ends all workers."""
        for slot in list(self.slots.values()):
            self.drop(slot)

    def refill(self) -> list[Slot]:
        """Adapts the pool to the nodes of the cluster now, such as after a loss.

        Returns:
            The new workers.
        """
        self._looked = time.monotonic()
        return self.resize(living_nodes())

    def _start(self, reservation: Reservation, place: int | None = None) -> Slot:
        place = next(self._places) if place is None else place
        actor_class = ray.remote(num_cpus=reservation.cpus, num_gpus=reservation.gpus, max_restarts=0)(Worker)
        actor = actor_class.remote(place, self._board, gpu=reservation.gpus > 0)
        self.slots[place] = Slot(place=place, actor=actor, reservation=reservation)
        return self.slots[place]


def is_node_loss(error: RayError) -> bool:
    """Returns whether an error says that a node is lost, or the connection to it.

    A worker that dies alone is reported by its node; where nobody reports it, the node is gone too.

    Args:
        error: that Ray raised.

    Returns:
        False where only the node's own state can tell.
    """
    return isinstance(error, ActorUnavailableError) or (isinstance(error, RayActorError) and error.preempted)
