"""The protocol of models: a description that builds a fresh network."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from assay import seeds
from assay.data.base import Form
from assay.models.front import behind, front_of
from assay.registry import Method


@dataclass(frozen=True, kw_only=True)
class GivenWeights:
    """Initial weights that do not come from the seed, which a private claim must name."""

    source: str
    """Their origin, with the hash of the file if there is one."""
    public: bool
    """Whether the user states that no record of the data was used to train them."""

    @classmethod
    def of_file(cls, path: str, *, public: bool) -> "GivenWeights":
        """Returns the description of the weights in a file.

        Args:
            path: of the file.
            public: whether the user states that no record of the data was used to train them.

        Returns:
            Name and SHA-256 of the file.
        """
        return cls(source=f"{Path(path).name} (SHA-256 {file_digest(path) or 'unknown: it is gone'})", public=public)


def file_digest(path: str) -> str:
    """Returns the SHA-256 of a file.

    Args:
        path: of the file.

    Returns:
        The digest, hexadecimal; empty if there is no such file.
    """
    if not Path(path).is_file():
        return ""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Architecture(Method):
    """Configuration that builds a network. Register it with ``@register("model")`` and write ``network``."""

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns a new network.

        Args:
            shape: of one record.
            classes: number of classes.

        Returns:
            A module from records (n, *shape) to logits (n, classes).

        Raises:
            SpecError: this kind of network cannot take records of this shape.
        """
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Returns a hash of code and files outside Assay on which the network depends.

        It is part of what names a trial.
        """
        return ""

    def given_weights(self, form: Form) -> GivenWeights | None:
        """Returns initial weights that do not come from the seed; None if there are none.

        Private training charges no ε for them.

        Args:
            form: of the records.

        Returns:
            Their description, or None.
        """
        return None

    def bare(self) -> "Architecture":
        """Returns the same network without the weights of a file, for a caller that loads all weights itself."""
        return self

    def build(self, shape: tuple[int, ...], classes: int, *, seed: int) -> nn.Module:
        """Returns a new network whose initial weights depend on the seed alone.

        Args:
            shape: of one record.
            classes: number of classes.
            seed: of the initial weights.

        Returns:
            A module from records (n, *shape) to logits (n, classes).
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.torch_seed(seed, "initial weights"))
            return self.network(shape, classes)

    def build_for(self, form: Form, *, seed: int) -> nn.Module:
        """Returns a new network for the records of a prepared data set, including the first layer that they need.

        Args:
            form: of the records.
            seed: of the initial weights.

        Returns:
            A module from records (n, *form.shape) to logits (n, classes).

        Raises:
            SpecError: this kind of network cannot take such records.
        """
        return behind(front_of(form), self.build(form.network_shape, form.classes, seed=seed))
