"""Ledgers on a cluster: one named actor writes all ledgers, so that two machines never write the same SQLite file."""

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
"""Attempts to reach an actor, and seconds between them: an actor that ends keeps its name for a moment."""
_PATIENCE = 600.0
"""Seconds in which the actor must answer; other jobs may be asking it too."""
_KEPT: dict[str, Any] = {}
"""Handle of the actor, by the node of this process. An actor ends when its creator drops the handle, and the creator
cannot get a second one, so the handle is stored until the actor fails."""


class LedgerActor:
    """Actor that runs all calls to the ledgers of a cluster, one after the other."""

    def create(self, folder: str, collection: Collection, known: LedgerMark | None) -> Any:
        """Opens or creates a ledger; see ``LedgerFile.create``.

        Args:
            folder: of the ledgers, on the machine of the actor.
            collection: the data set.
            known: mark of the ledger that was used before.

        Returns:
            Path of the ledger, or the ``UserError`` that was raised.
        """
        return self._answer(lambda: str(Ledger.create(Path(folder), collection, known).path))

    def call(self, path: str, method: str, args: tuple[Any, ...], settings: dict[str, Any]) -> Any:
        """Calls a method of a ledger.

        Args:
            path: of the ledger.
            method: name of the method.
            args: its positional arguments.
            settings: its keyword arguments.

        Returns:
            Its result, or the ``UserError`` that was raised.
        """
        return self._answer(lambda: getattr(Ledger(Path(path)), method)(*args, **settings))

    def _answer(self, ask: Any) -> Any:
        """Returns a user's error instead of raising it: Ray would wrap an exception in its own traceback."""
        try:
            return ask()
        except UserError as error:
            return error


class RemoteLedger(LedgerProtocol):
    """Ledger whose methods run in the ledger actor of the cluster; picklable.

    Args:
        path: of its file, on the machine of the actor.
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
        mark: LedgerMark = self._ask("mark")
        return mark

    def about(self, key: str) -> str:
        fact: str = self._ask("about", key)
        return fact

    def verify(self, head: str = "") -> str:
        last_seal: str = self._ask("verify", head)
        return last_seal

    def experiments(self) -> list[Experiment]:
        experiments: list[Experiment] = self._ask("experiments")
        return experiments

    def processings(self) -> list[tuple[Processing, int, int]]:
        processings: list[tuple[Processing, int, int]] = self._ask("processings")
        return processings

    def expired(self, today: str) -> list[Experiment]:
        expired: list[Experiment] = self._ask("expired", today)
        return expired

    def positions_of(self, patient: str) -> np.ndarray:
        positions: np.ndarray = self._ask("positions_of", patient)
        return positions

    def traces(self, positions: Sequence[int] | np.ndarray) -> list[Trace]:
        traces: list[Trace] = self._ask("traces", positions)
        return traces

    def erasures(self) -> list[tuple[str, str, str]]:
        erasures: list[tuple[str, str, str]] = self._ask("erasures")
        return erasures

    def trainings(self, results: str) -> list[TrainingRow]:
        trainings: list[TrainingRow] = self._ask("trainings", results)
        return trainings

    def set_budget(self, epsilon: float, *, delta: float | None = None, reason: str = "") -> None:
        self._ask("set_budget", epsilon, delta=delta, reason=reason)

    def reserve(self, request: ReleaseRequest) -> None:
        self._ask("reserve", request)

    def drop(self, trials: Iterable[str]) -> list[str]:
        labels: list[str] = self._ask("drop", list(trials))
        return labels

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
        account: Account = self._ask("account")
        return account

    def budgets(self) -> list[Budget]:
        budgets: list[Budget] = self._ask("budgets")
        return budgets

    def begin(self, experiment: Experiment, roles: np.ndarray, charge: Charge) -> None:
        self._ask("begin", experiment, roles, charge)

    def end(
        self,
        experiment: Experiment,
        roles: np.ndarray,
        *,
        artefact: str = "",
        objection: str = "",
        accounted: bool = True,
    ) -> None:
        self._ask("end", experiment, roles, artefact=artefact, objection=objection, accounted=accounted)

    def erased(self, experiments: Iterable[Experiment], *, asked: str) -> None:
        self._ask("erased", list(experiments), asked=asked)

    def _ask(self, method: str, *args: Any, **settings: Any) -> Any:
        return _asked(lambda actor: actor.call.remote(str(self.path), method, args, settings))


def opening(address: str | None = None) -> "Opening":
    """Returns the function that opens or creates ledgers: as files, or on a cluster through the ledger actor.

    Args:
        address: as for ``session.ray_session``.

    Returns:
        The function.
    """
    return through_actor if _on_cluster(address) else Ledger.create


def existing(path: Path) -> LedgerProtocol:
    """Returns a ledger that exists already, as a file or through the ledger actor.

    Args:
        path: of the ledger.

    Returns:
        The ledger.
    """
    return RemoteLedger(str(path)) if _on_cluster() else Ledger(path)


@contextmanager
def cluster_joined() -> Iterator[None]:
    """Joins the cluster of ``RAY_ADDRESS`` within the block; does nothing if the variable is not set."""
    if not os.environ.get("RAY_ADDRESS"):
        yield
        return
    with ray_session(None, workers=1):
        yield


def through_actor(folder: Path, collection: Collection, known: LedgerMark | None = None) -> LedgerProtocol:
    """Opens or creates a ledger through the actor of the cluster that this process has joined.

    Args:
        folder: of the ledgers, on the machine of the actor, which may be another machine the next time.
        collection: the data set.
        known: mark of the ledger that was used before; see ``LedgerFile.create``.

    Returns:
        The ledger.
    """
    return RemoteLedger(_asked(lambda actor: actor.create.remote(str(folder), collection, known)))


def _on_cluster(address: str | None = None) -> bool:
    """Returns whether a cluster is named, or this process belongs to one; does not import Ray."""
    ray = sys.modules.get("ray")
    return bool(address or os.environ.get("RAY_ADDRESS")) or (ray is not None and ray.is_initialized())


def _actor() -> Any:
    """Returns the ledger actor; creates it on this machine if there is none. It ends with the process that created it.

    A detached actor would outlive its job, and delay the shutdown of the cluster by half a minute.
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
    """Calls the actor; if the job that created it has ended meanwhile, calls a new one.

    A call whose reply was lost is repeated: every method may be called twice with the same effect.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError

    for last in (False,) * (_TRIES - 1) + (True,):
        try:
            result = ray.get(ask(_actor()), timeout=_PATIENCE)
            break
        except GetTimeoutError:
            raise UserError(
                f"the ledger actor of the cluster has not answered within {_PATIENCE:g} s. See whether its machine can "
                "be reached, and start again: what was asked may be asked twice",
                setting="--address",
            ) from None
        except RayActorError:
            _KEPT.clear()
            if last:
                raise
            time.sleep(_PAUSE)
    if isinstance(result, UserError):
        raise result
    return result
