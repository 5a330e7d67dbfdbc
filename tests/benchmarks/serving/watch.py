"""Memory of a service while it is attacked."""

import threading
from types import TracebackType

from tests.benchmarks.serving.processes import Server

ROLES = {"proxy": ("haproxy", "ProxyActor"), "replica": ("ServeReplica",)}
"""Words in the titles of processes, by what they are."""
_EVERY = 0.25


class Watch:
    """Looks at the memory of all processes four times a second, from ``with`` to its end.

    Args:
        server: that is attacked.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.before: dict[tuple[int, str], float] = {}
        self.most: dict[tuple[int, str], float] = {}
        self.after: dict[tuple[int, str], float] = {}

    def __enter__(self) -> "Watch":
        self.before = self._server.resident()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self.after = self._server.resident()
        self._keep(self.after)

    def _look(self) -> None:
        while not self._over.wait(_EVERY):
            self._keep(self._server.resident())

    def _keep(self, found: dict[tuple[int, str], float]) -> None:
        for one, megabytes in found.items():
            self.most[one] = max(self.most.get(one, 0.0), megabytes)

    def growth(self, role: str, *, most: bool = False) -> float:
        """Returns by how many megabytes the process of a role grew that grew most.

        Args:
            role: key of ``ROLES``.
            most: whether to compare with the most that it had meanwhile, not with the end.
        """
        then = self.most if most else self.after
        grown = [
            then[one] - megabytes
            for one, megabytes in self.before.items()
            if one in then and any(word in one[1] for word in ROLES[role])
        ]
        if not grown:
            raise RuntimeError(f"no process of the service is a {role}: {sorted(title for _, title in self.before)}")
        return round(max(grown), 1)
