"""Ledgers on a cluster: one named actor writes them all, so that SQLite is never written from two machines."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from assay.cluster.session import ray_session
from assay.errors import UserError
from assay.ledger import Ledger
from assay.ledger.database import Collection, LedgerMark

if TYPE_CHECKING:
    from assay.release.ledgers import Opening

NAME = "assay-ledger"
NAMESPACE = "assay"
_TRIES, _PAUSE = 20, 0.5
"""Times that an actor is asked, and seconds between them: one that ends keeps its name for a moment."""
_KEPT: dict[str, Any] = {}
"""The actor that this process asks, by the node on which it runs itself. An actor ends when nobody keeps it, and the
handle of who made it cannot be had a second time: so it is kept until the actor fails."""


class LedgerActor:
    """Does one thing after the other, in one process of the cluster."""

    def create(self, folder: str, collection: Collection, known: LedgerMark | None) -> Any:
        return self._answer(lambda: str(Ledger.create(Path(folder), collection, known).path))

    def call(self, path: str, method: str, args: tuple[Any, ...], settings: dict[str, Any]) -> Any:
        return self._answer(lambda: getattr(Ledger(Path(path)), method)(*args, **settings))

    def _answer(self, ask: Any) -> Any:
        """A user's mistake is an answer: Ray would wrap an exception in its own traceback."""
        try:
            return ask()
        except UserError as error:
            return error


class RemoteLedger:
    """A ``Ledger`` whose methods run in the cluster's actor; picklable."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    @property
    def name(self) -> str:
        return str(self._ask("about", "name"))

    @property
    def records(self) -> int:
        return int(self._ask("about", "records"))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not callable(getattr(Ledger, name, None)):
            raise AttributeError(name)
        return partial(self._ask, name)

    def _ask(self, method: str, *args: Any, **settings: Any) -> Any:
        return _asked(lambda clerk: clerk.call.remote(str(self.path), method, args, settings))


def opening(address: str | None = None) -> "Opening":
    """How the ledger of a data set is reached, which may have to be made: as a file, or where a cluster is joined,
    through its actor.

    Args:
        address: as for ``session.ray_session``.
    """
    return through_actor if _on_cluster(address) else Ledger.create


def existing(path: Path) -> Ledger:
    """A ledger that was made before, reached in the same way."""
    return cast(Ledger, RemoteLedger(str(path))) if _on_cluster() else Ledger(path)


@contextmanager
def cluster_joined() -> Iterator[None]:
    """The cluster that is named, for as long as its ledgers are asked; where none is, nothing is started."""
    if not os.environ.get("RAY_ADDRESS"):
        yield
        return
    with ray_session(None, workers=1):
        yield


def through_actor(folder: Path, collection: Collection, known: LedgerMark | None = None) -> Ledger:
    """The ledger of a data set, written by the actor of the cluster that this process has joined.

    Args:
        known: see ``Database.create``. The folder is one of the machine on which the actor runs, which may be another
            the next time.
    """
    return cast(Ledger, RemoteLedger(_asked(lambda clerk: clerk.create.remote(str(folder), collection, known))))


def _on_cluster(address: str | None = None) -> bool:
    """Whether a cluster is named, or this process belongs to one. Ray is not imported to find out."""
    ray = sys.modules.get("ray")
    return bool(address or os.environ.get("RAY_ADDRESS")) or (ray is not None and ray.is_initialized())


def _clerk() -> Any:
    """The one actor; made on this machine if there is none, and gone with the process that made it.

    It does not outlive its job: the cluster's end would wait half a minute for an actor that does.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    if here not in _KEPT:
        _KEPT.clear()
        _KEPT[here] = (
            ray.remote(LedgerActor)
            .options(
                name=NAME,
                namespace=NAMESPACE,
                get_if_exists=True,
                num_cpus=0,
                max_restarts=-1,
                max_task_retries=-1,
                scheduling_strategy=NodeAffinitySchedulingStrategy(here, soft=False),
            )
            .remote()
        )
    return _KEPT[here]


def _asked(ask: Callable[[Any], Any]) -> Any:
    """The actor's answer; of the next actor, where the job that made this one has ended meanwhile.

    A question whose answer was lost is asked again: every method may be called twice with the same effect.
    """
    import ray
    from ray.exceptions import RayActorError

    for last in (False,) * (_TRIES - 1) + (True,):
        try:
            found = ray.get(ask(_clerk()))
            break
        except RayActorError:
            _KEPT.clear()
            if last:
                raise
            time.sleep(_PAUSE)
    if isinstance(found, UserError):
        raise found
    return found
