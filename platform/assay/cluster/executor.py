"""A pool of warm Ray actors for a study, which run trials and host services, such as that of a federated training.

Warm actors import torch once, not for every trial.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ray

from assay.cluster.board import Reports
from assay.cluster.host import RayHost, ready_slots
from assay.cluster.mapping import Mapping, Source
from assay.cluster.pool import Pool, PoolSettings
from assay.cluster.resources import checked_gpus
from assay.cluster.session import joins_cluster, ray_session
from assay.cluster.waiting import WAIT
from assay.executors import ByDevice, Outcome, Service


class RayExecutor:
    """``Executor`` over actors that live until ``close``. Ray starts at the first work, and not at all without work.

    Actors whose node is lost are replaced, and nodes that join the cluster get actors too.

    Args:
        address: cluster to join; see ``session.ray_session``.
        workers: number of actors; by default as many as the CPUs of the cluster allow at any time.
        cpus: CPUs that each reserves; should equal the threads of a trial.
        gpus: GPUs that each reserves: a share of one, or a whole number. By default an equal share where the cluster
            has GPUs. With 0 the actors see no GPU.
        wait: seconds to wait for the first actor, if the cluster has no room for one yet.

    Raises:
        UserError: the number of GPUs is neither a share of one nor whole.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        workers: int | None = None,
        cpus: int = 1,
        gpus: float | None = None,
        wait: float = WAIT,
    ) -> None:
        self._address = address
        self._settings = PoolSettings(workers=workers, cpus=cpus, gpus=checked_gpus(gpus), wait=wait)
        self._session = contextlib.ExitStack()
        self._reports = Reports()
        self._pool: Pool | None = None

    def __enter__(self) -> "RayExecutor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def workers(self) -> int:
        """Number of actors now; starts them if necessary."""
        return len(self._started().slots)

    def close(self) -> None:
        """Stops the actors, and Ray if it was started here."""
        if self._pool is not None:
            self._pool.close()
            self._reports.close()
        self._pool = None
        self._session.close()

    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        """Runs ``fn(item, shared)`` for each item on the actors; see ``Executor.map``."""
        source = Source(items if isinstance(items, ByDevice) else ByDevice(gpu=items))
        if source.exhausted():
            return
        pool = self._opened()
        yield from Mapping(pool, self._reports, fn, source, ray.put(shared)).outcomes()

    def host(self, make: Callable[[], Service]) -> RayHost:
        """Creates a service on each actor that has started; see ``Executor.host``."""
        pool = self._started()
        return RayHost(pool, ready_slots(pool), make)

    def _started(self) -> Pool:
        """Returns the pool with workers that run any item."""
        pool = self._opened()
        # A service may need a GPU: workers without one, which an earlier map has left, are not enough.
        pool.with_gpu_items = True
        if not any(slot.reservation == pool.main for slot in pool.slots.values()):
            pool.with_cpu_items = False
            pool.refill()
            pool.drop_surplus([slot for slot in pool.slots.values() if slot.reservation != pool.main])
        return pool

    def _opened(self) -> Pool:
        """Returns the pool, as yet without a worker if nothing has run on it."""
        if self._pool is None:
            grows = joins_cluster(self._address)
            self._session.enter_context(
                ray_session(self._address, workers=self._settings.workers, cpus=self._settings.cpus)
            )
            self._pool = Pool(self._settings, self._reports.name, grows=grows)
        return self._pool
