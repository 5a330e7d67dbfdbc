"""A federated training on disk: after each round, all that the next one needs, client states included."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from assay.errors import CheckpointError
from assay.federated.state import ClientStates
from assay.training.checkpoints import from_bytes, to_bytes
from assay.training.snapshots import under

_ROUND = "round.safetensors"
_BEGUN = "begun"


class RoundFolder:
    """Folder of one training. A round is on disk when its file is renamed into place; client states lie beside it.

    Args:
        path: of the folder; made if necessary.
        key: of what is trained; a folder of another training is not continued.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key

    def begin(self, number: int, clients: list[int]) -> None:
        """Notes that a round begins, so that its noise is charged even if the round is lost.

        Args:
            number: of the round.
            clients: that take part.
        """
        self._replace(_BEGUN, to_bytes({}, {"number": number, "clients": clients}))

    def save(
        self, number: int, *, tensors: Mapping[str, Tensor], about: Mapping[str, Any], states: ClientStates
    ) -> None:
        """Stores a finished round.

        Args:
            number: of the round.
            tensors: of the server.
            about: JSON-able.
            states: of the clients; those that have changed are written.
        """
        names = states.save()
        description = {"key": self._key, "number": number, "about": dict(about), "clients": names}
        self._replace(_ROUND, to_bytes(tensors, description))
        states.clean(names.values())

    def load(self, states: ClientStates) -> tuple[int, dict[str, Tensor], dict[str, Any], list[int]] | None:
        """Reads the last finished round.

        Args:
            states: take up those of the clients.

        Returns:
            Number of the round, tensors and description of the server, and the clients of a later round that was begun
            and lost; None if no round was finished, or they are of another training.
        """
        path = self._path / _ROUND
        if not path.is_file():
            return None
        try:
            tensors, description = from_bytes(path.read_bytes(), str(path))
        except CheckpointError:
            return None  # a torn copy, as of a full disk: start again
        if description.get("key") != self._key:
            return None
        states.load(description["clients"])
        number = int(description["number"])
        begun = self._begun()
        lost = list(begun["clients"]) if begun is not None and begun["number"] == number + 1 else []
        return number, tensors, description["about"], lost

    def lost_first(self) -> list[int]:
        """Returns the clients of a first round that was begun and never finished.

        Returns:
            Their numbers.
        """
        begun = self._begun()
        return list(begun["clients"]) if begun is not None and begun["number"] == 1 else []

    def remove(self) -> None:
        """Removes the folder's files after the training."""
        for path in [*self._path.glob("*.client"), self._path / _ROUND, self._path / _BEGUN]:
            path.unlink(missing_ok=True)
        if self._path.is_dir() and not any(self._path.iterdir()):
            self._path.rmdir()

    def _begun(self) -> dict[str, Any] | None:
        path = self._path / _BEGUN
        return from_bytes(path.read_bytes(), str(path))[1] if path.is_file() else None

    def _replace(self, name: str, content: bytes) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        temporary = self._path / f"{name}.new"
        temporary.write_bytes(content)
        temporary.replace(self._path / name)


def split_tensors(tensors: Mapping[str, Tensor], *owners: str) -> tuple[dict[str, Tensor], ...]:
    """Returns the tensors of each owner.

    Args:
        tensors: as ``OWNER.NAME``.
        owners: names.

    Returns:
        Tensors by ``NAME``, one dictionary an owner.
    """
    return tuple(under(owner, tensors) for owner in owners)
