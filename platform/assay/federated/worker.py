"""A worker of a federated training: the service that trains the clients it is sent."""

import threading
from collections.abc import Callable, Sequence

import torch

from assay.devices import device
from assay.federated.client import LocalTraining
from assay.federated.collected import Collected
from assay.federated.local_trainer import LocalTrainer
from assay.federated.messages import Assignment, Replies, Round


class ClientWorker:
    """Trains the clients that it is sent; implements ``executors.Service``.

    Each client has ``deadline`` seconds from its own start: clients share workers here, and hospitals do not. Training
    runs in a thread; if a client hangs, its thread and its network are left to it, and the others go on with new ones.

    Args:
        given: data, recipe and seed, the same at every worker.
    """

    def __init__(self, given: LocalTraining) -> None:
        self._given = given
        self._trainer, self._thread = self._trainer_of_clients(), _WorkThread()

    def __call__(self, request: Sequence[Assignment], shared: Round) -> Replies:
        """Trains some clients, one after the other.

        Args:
            request: the clients.
            shared: weights and settings of the round.

        Returns:
            Sums and reports of those who finished in time, and why the others did not.
        """
        collected = Collected(self._trainer.sums(shared), single=shared.single)
        for assignment in request:
            if collected.refused:
                break
            trainer = self._trainer
            self._thread.run(lambda trainer=trainer, one=assignment: trainer.train(one, shared, collected))  # type: ignore[misc]
            if not self._thread.wait(shared.deadline):
                collected.abandon(assignment.client, f"no reply within {shared.deadline:g} s")
                self._trainer, self._thread = self._trainer_of_clients(), _WorkThread()
        return collected.close()

    def _trainer_of_clients(self) -> LocalTrainer:
        return LocalTrainer(self._given, torch.device("cpu") if self._given.on_cpu else device())


class _WorkThread:
    """A thread that runs one function at a time. Whoever waits for it may stop waiting: then it is abandoned."""

    def __init__(self) -> None:
        self._given = threading.Semaphore(0)
        self._done = threading.Event()
        self._function: Callable[[], None] = lambda: None
        threading.Thread(target=self._serve, daemon=True, name="clients").start()

    def run(self, function: Callable[[], None]) -> None:
        """Starts a function.

        Args:
            function: must not raise.
        """
        self._function = function
        self._done.clear()
        self._given.release()

    def wait(self, seconds: float) -> bool:
        """Waits for the end of the function.

        Args:
            seconds: at most.

        Returns:
            Whether it has ended.
        """
        return self._done.wait(seconds)

    def _serve(self) -> None:
        while True:
            self._given.acquire()
            self._function()
            self._function = lambda: None  # frees what it refers to
            self._done.set()
