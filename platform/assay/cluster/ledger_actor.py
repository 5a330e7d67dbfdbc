"""Ledgers on a cluster: one named actor writes them all, so that SQLite is never written from two machines."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.cluster.session import ray_session
from assay.errors import UserError
from assay.ledger import Ledger
from assay.ledger.account import Account, Budget, ReleaseRequest
from assay.ledger.database import Collection, LedgerMark
from assay.ledger.experiments import Experiment, Processing, Trace
from assay.ledger.protocol import LedgerProtocol
from assay.ledger.trainings import TrainingRow
from assay.privacy.composition import Charge

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


class RemoteLedger(LedgerProtocol):
    """A ledger whose methods run in the cluster's actor; picklable.

    Args:
        path: of its file, on the machine where the actor runs.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    @property
    def name(self) -> str:
        return str(self._ask("about", "name"))

    @property
    def records(self) -> int:
        return int(self._ask("about", "records"))

    def mark(self) -> LedgerMark:
        found: LedgerMark = self._ask("mark")
        return found

    def about(self, key: str) -> str:
        found: str = self._ask("about", key)
        return found

    def verify(self, head: str = "") -> str:
        found: str = self._ask("verify", head)
        return found

    def experiments(self) -> list[Experiment]:
        found: list[Experiment] = self._ask("experiments")
        return found

    def processings(self) -> list[tuple[Processing, int, int]]:
        found: list[tuple[Processing, int, int]] = self._ask("processings")
        return found

    def expired(self, today: str) -> list[Experiment]:
        found: list[Experiment] = self._ask("expired", today)
        return found

    def positions_of(self, patient: str) -> np.ndarray:
        found: np.ndarray = self._ask("positions_of", patient)
        return found

    def traces(self, positions: Sequence[int] | np.ndarray) -> list[Trace]:
        found: list[Trace] = self._ask("traces", positions)
        return found

    def erasures(self) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = self._ask("erasures")
        return found

    def trainings(self, results: str) -> list[TrainingRow]:
        found: list[TrainingRow] = self._ask("trainings", results)
        return found

    def set_budget(self, epsilon: float, *, delta: float | None = None, reason: str = "") -> None:
        self._ask("set_budget", epsilon, delta=delta, reason=reason)

    def reserve(self, request: ReleaseRequest) -> None:
        self._ask("reserve", request)

    def drop(self, trials: Iterable[str]) -> list[str]:
        found: list[str] = self._ask("drop", list(trials))
        return found

    def release(
        self,
        requests: Sequence[ReleaseRequest],
        *,
        how: str,
        processing: Processing,
        epsilon: float | None = None,
        delta: float | None = None,
        reason: str = "",
        looked_at: Sequence[ReleaseRequest] = (),
        plan: Sequence[ReleaseRequest] | None = None,
        unguarded: bool = False,
        rehearsed: bool = False,
    ) -> None:
        self._ask(
            "release",
            requests,
            how=how,
            processing=processing,
            epsilon=epsilon,
            delta=delta,
            reason=reason,
            looked_at=looked_at,
            plan=plan,
            unguarded=unguarded,
            rehearsed=rehearsed,
        )

    def account(self) -> Account:
        found: Account = self._ask("account")
        return found

    def budgets(self) -> list[Budget]:
        found: list[Budget] = self._ask("budgets")
        return found

    def begin(self, experiment: Experiment, roles: np.ndarray, charge: Charge) -> None:
        self._ask("begin", experiment, roles, charge)

    def end(self, experiment: Experiment, roles: np.ndarray, *, artefact: str = "", objection: str = "") -> None:
        self._ask("end", experiment, roles, artefact=artefact, objection=objection)

    def erased(self, experiments: Iterable[Experiment], *, asked: str) -> None:
        self._ask("erased", list(experiments), asked=asked)

    def _ask(self, method: str, *args: Any, **settings: Any) -> Any:
        return _asked(lambda actor: actor.call.remote(str(self.path), method, args, settings))


def opening(address: str | None = None) -> "Opening":
    """How the ledger of a data set is reached, which may have to be made: as a file, or where a cluster is joined,
    through its actor.

    Args:
        address: as for ``session.ray_session``.
    """
    return through_actor if _on_cluster(address) else Ledger.create


def existing(path: Path) -> LedgerProtocol:
    """A ledger that was made before, reached in the same way."""
    return RemoteLedger(str(path)) if _on_cluster() else Ledger(path)


@contextmanager
def cluster_joined() -> Iterator[None]:
    """The cluster that is named, for as long as its ledgers are asked; where none is, nothing is started."""
    if not os.environ.get("RAY_ADDRESS"):
        yield
        return
    with ray_session(None, workers=1):
        yield


def through_actor(folder: Path, collection: Collection, known: LedgerMark | None = None) -> LedgerProtocol:
    """The ledger of a data set, written by the actor of the cluster that this process has joined.

    Args:
        known: see ``LedgerFile.create``. The folder is one of the machine on which the actor runs, which may be another
            the next time.
    """
    return RemoteLedger(_asked(lambda actor: actor.create.remote(str(folder), collection, known)))


def _on_cluster(address: str | None = None) -> bool:
    """Whether a cluster is named, or this process belongs to one. Ray is not imported to find out."""
    ray = sys.modules.get("ray")
    return bool(address or os.environ.get("RAY_ADDRESS")) or (ray is not None and ray.is_initialized())


def _actor() -> Any:
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
            found = ray.get(ask(_actor()))
            break
        except RayActorError:
            _KEPT.clear()
            if last:
                raise
            time.sleep(_PAUSE)
    if isinstance(found, UserError):
        raise found
    return found
