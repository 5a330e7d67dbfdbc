"""State that a client keeps from one round to the next: tensors and plain values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from assay.federated.packing import Packed
from assay.training.checkpoints import from_bytes, to_bytes

_IN_MEMORY = 256 << 20
"""Bytes of tensors that are held in memory before the oldest states move to files."""


@dataclass(kw_only=True)
class ClientState(Packed):
    """What a client keeps: counters of its training, and tensors of its optimizer, hooks, transforms and own layers."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    """By name, as ``OWNER.NAME``: ``optimizer.…``, ``hooks.NAME.…``, ``personal.…``, ``transforms.…``."""
    values: dict[str, Any] = field(default_factory=dict)
    """JSON-able, such as the number of steps, on which random numbers and the privacy account depend."""

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def copy(self) -> "ClientState":
        """Returns a state of its own that shares tensors, which nobody changes in place.

        Returns:
            The copy.
        """
        return ClientState(tensors=dict(self.tensors), values=dict(self.values))

    def on_cpu(self) -> "ClientState":
        """Returns the state with all tensors in main memory.

        Returns:
            The state.
        """
        return ClientState(tensors={name: t.cpu() for name, t in self.tensors.items()}, values=self.values)

    def to_bytes(self) -> bytes:
        """Returns the state as the content of a safetensors file.

        Returns:
            The content.
        """
        return to_bytes(self.tensors, self.values)

    @classmethod
    def of(cls, content: bytes, source: str) -> "ClientState":
        """Reads a state.

        Args:
            content: as ``to_bytes`` returned it.
            source: name of the file, for errors.

        Returns:
            The state.

        Raises:
            CheckpointError: the content is not safetensors.
        """
        tensors, values = from_bytes(content, source)
        return cls(tensors=tensors, values=values)


class ClientStates:
    """States of all clients at the server, in memory as long as they are few and small, in files otherwise.

    A client that has never taken part has no state and takes no memory.

    Args:
        folder: of the files.
        in_memory: bytes of tensors that are held in memory.
    """

    def __init__(self, folder: Path, *, in_memory: int = _IN_MEMORY) -> None:
        self._folder, self._most = folder, in_memory
        self._memory: dict[int, ClientState] = {}
        self._files: dict[int, Path] = {}
        self._unsaved: set[int] = set()
        self._named: set[str] = set()
        """Files of the last round on disk, which must stay until the next one is there."""
        self._bytes = 0
        self._version = 0

    def __contains__(self, number: int) -> bool:
        return number in self._memory or number in self._files

    def __len__(self) -> int:
        return len(self._memory.keys() | self._files.keys())

    def get(self, number: int) -> ClientState | None:
        """Returns the state of a client.

        Args:
            number: of the client.

        Returns:
            Its state; None if it has none yet.
        """
        if (state := self._memory.get(number)) is not None:
            return state
        path = self._files.get(number)
        return None if path is None else ClientState.of(path.read_bytes(), path.name)

    def put(self, states: Mapping[int, ClientState]) -> None:
        """Replaces the states of some clients.

        Args:
            states: by client number.
        """
        for number, state in states.items():
            self._forget(number)
            self._memory[number] = state
            self._bytes += state.size
            self._unsaved.add(number)
        while self._bytes > self._most and self._memory:
            oldest = next(iter(self._memory))
            if oldest in self._unsaved:
                self._write([oldest])
            self._forget(oldest)

    def save(self) -> dict[str, str]:
        """Writes the states that have changed, under new names; earlier files stay until ``clean``.

        Returns:
            Name of each client's file by its number as text, for ``load``.
        """
        self._write(sorted(self._unsaved))
        return {str(number): path.name for number, path in sorted(self._files.items())}

    def clean(self, names: Iterable[str]) -> None:
        """Removes all files but those that are named.

        Args:
            names: that ``save`` returned last.
        """
        self._named = set(names)
        kept = self._named | {path.name for path in self._files.values()}
        for path in self._folder.glob("*.client"):
            if path.name not in kept:
                path.unlink(missing_ok=True)

    def load(self, names: Mapping[str, str]) -> None:
        """Takes up the states that were saved.

        Args:
            names: that ``save`` returned.
        """
        self._memory, self._unsaved, self._bytes = {}, set(), 0
        self._named = set(names.values())
        self._files = {int(number): self._folder / name for number, name in names.items()}
        versions = [int(name.split(".")[0].split("-")[1]) for name in names.values()]
        self._version = max(versions, default=0)

    def _forget(self, number: int) -> None:
        state = self._memory.pop(number, None)
        if state is not None:
            self._bytes -= state.size

    def _write(self, numbers: Iterable[int]) -> None:
        self._version += 1
        for number in numbers:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{number}-{self._version}.client"
            path.write_bytes(self._memory[number].to_bytes())
            before = self._files.get(number)
            if before is not None and before.name not in self._named:
                before.unlink(missing_ok=True)
            self._files[number] = path
            self._unsaved.discard(number)
