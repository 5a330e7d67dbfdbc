"""What a model is to Assay: a description that builds a fresh network."""

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
    """First weights that do not come from the seed, as a private claim must name them."""

    source: str
    """Where they come from, and the hash of the file if there is one."""
    public: bool
    """Whether the user says that they saw no record of the data."""

    @classmethod
    def of_file(cls, path: str, *, public: bool) -> "GivenWeights":
        return cls(source=f"{Path(path).name} (SHA-256 {file_digest(path) or 'unknown: it is gone'})", public=public)


def file_digest(path: str) -> str:
    """SHA-256 of a file; empty if there is none."""
    if not Path(path).is_file():
        return ""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Architecture(Method):
    """Register with ``@register("model")`` and write ``network``."""

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A new network from records (n, *shape) to logits (n, classes)."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Hash of code outside Assay that the network depends on; part of what names a trial."""
        return ""

    def given_weights(self, form: Form) -> GivenWeights | None:
        """First weights of another source than the seed: private training charges nothing for them. None if none."""
        return None

    def bare(self) -> "Architecture":
        """The same network without the weights of a file: for whoever has all of them already."""
        return self

    def build(self, shape: tuple[int, ...], classes: int, *, seed: int) -> nn.Module:
        """A new network whose first weights depend on ``seed`` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeds.torch_seed(seed, "initial weights"))
            return self.network(shape, classes)

    def build_for(self, form: Form, *, seed: int) -> nn.Module:
        """The same for records of a prepared data set, behind the first layer that they ask for.

        Raises:
            SpecError: this kind of network cannot take such records.
        """
        return behind(front_of(form), self.build(form.network_shape, form.classes, seed=seed))
