"""A federated training on disk: after each round, all that the next one needs, client states included."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from assay.errors import CheckpointError
from assay.federated.state import ClientStates
from assay.training.checkpoints import from_bytes, to_bytes

_ROUND = "round.safetensors"
_BEGUN = "begun.json"


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a folder holds of a training."""

    number: int = 0
    """Of the last finished round; 0 if there is none."""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """Of the server."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able, of the server."""
    lost: tuple[int, ...] = ()
    """Clients of the next round, once for each time that it was begun and not finished."""


class RoundFolder:
    """Folder of one training. A round is on disk when its file is renamed into place; client states lie beside it.

    Args:
        path: of the folder; made if necessary.
        key: of what is trained; a folder of another training is not continued.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key

    def begin(self, number: int, clients: list[int]) -> None:
        """Notes that a round begins, so that its noise is charged even if the round is lost, each time anew.

        Args:
            number: of the round.
            clients: that take part.
        """
        begun = self._begun()
        tries = begun["tries"] if begun["number"] == number else []
        about = {"key": self._key, "number": number, "tries": [*tries, clients]}
        self._replace(_BEGUN, json.dumps(about).encode())

    def save(
        self, number: int, *, tensors: Mapping[str, Tensor], values: Mapping[str, Any], states: ClientStates
    ) -> None:
        """Stores a finished round.

        Args:
            number: of the round.
            tensors: of the server.
            values: JSON-able, of the server.
            states: of the clients; those that have changed are written.
        """
        names = states.save()
        description = {"key": self._key, "number": number, "values": dict(values), "clients": names}
        self._replace(_ROUND, to_bytes(tensors, description))
        states.clean(names.values())

    def load(self, states: ClientStates) -> Stored:
        """Reads the last finished round, and which clients have drawn noise since.

        Args:
            states: take up those of the clients.

        Returns:
            The round; without tensors if no round was finished, or they are of another training.

        Raises:
            CheckpointError: the file of the round is damaged, and its noise cannot be drawn again, so that the rounds
                before it would not be charged.
        """
        path, begun = self._path / _ROUND, self._begun()
        tensors: Mapping[str, Tensor] = {}
        description: Mapping[str, Any] = {}
        if path.is_file():
            try:
                tensors, description = from_bytes(path.read_bytes(), str(path))
            except CheckpointError as error:
                if begun["number"]:
                    raise CheckpointError(
                        f"the stored rounds of a private training cannot be read ({error}), and their noise was drawn "
                        f"from entropy: what clients have spent is unknown. Remove {str(self._path)!r} to train again, "
                        "and count the rounds before as spent",
                        setting="results",
                        given=str(path),
                    ) from None
        if description.get("key") != self._key:
            return Stored(lost=_lost(begun, 1))
        states.load(description["clients"])
        number = int(description["number"])
        return Stored(number=number, tensors=tensors, values=description["values"], lost=_lost(begun, number + 1))

    def _begun(self) -> dict[str, Any]:
        path = self._path / _BEGUN
        nothing: dict[str, Any] = {"number": 0, "tries": []}
        if not path.is_file():
            return nothing
        begun: dict[str, Any] = json.loads(path.read_text())
        return begun if begun["key"] == self._key else nothing

    def _replace(self, name: str, content: bytes) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        temporary = self._path / f"{name}.new"
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._path / name)


def remove_rounds(folder: Path) -> None:
    """Removes the stored rounds of a training whose model has been stored.

    Args:
        folder: of the training, with the folders of its stages; it need not exist.
    """
    shutil.rmtree(folder, ignore_errors=True)


def _lost(begun: Mapping[str, Any], number: int) -> tuple[int, ...]:
    """Returns the clients of a round that was begun and not finished, once for each try."""
    return tuple(client for tried in begun["tries"] for client in tried) if begun["number"] == number else ()
