"""What a model is to Assay: a description that builds a fresh network."""

import torch
from torch import nn

from assay import seeds
from assay.data.base import Form
from assay.models.front import behind, front_of
from assay.registry import Method


class Architecture(Method):
    """Register with ``@register("model")`` and write ``network``."""

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """A new network from records (n, *shape) to logits (n, classes)."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Hash of code outside Assay that the network depends on; part of what names a trial."""
        return ""

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
