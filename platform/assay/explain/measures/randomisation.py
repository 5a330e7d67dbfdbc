"""Does a map depend on what was learnt? Its likeness to maps of other networks on the same records.

Maps of two networks that the same recipe trained from other seeds should be more alike than maps of a trained network
and of one with random weights (after Adebayo et al. 2018, arXiv:1810.03292). A fixed limit of likeness says little:
gradients that are multiplied by the same input agree by one half with no relation between the networks.
"""

import copy
from collections.abc import Iterator
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.stats import rankdata
from torch import Tensor, nn

from assay import seeds
from assay.explain.measures.base import ExplanationMeasure, MeasuredMap, MeasuredRecords
from assay.registry import register


def randomised(model: nn.Module, seed: int) -> nn.Module:
    """Returns the network with every weight drawn again, at its scale.

    Args:
        model: trained; not changed.
        seed: of the drawing.

    Returns:
        The network.
    """
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            # A gain of a normalisation layer keeps its mean: around 0 it would turn channels off.
            gain = parameter.dim() == 1 and name.rpartition(".")[2] == "weight"
            middle = float(parameter.mean()) if gain else 0.0
            scale = float(parameter.std()) if parameter.numel() > 1 else 1.0
            drawn = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.copy_(middle + drawn * (scale or 1.0))
    return other


def rank_agreement(one: Tensor, other: Tensor, features: Tensor | None, *, signed: bool = False) -> np.ndarray:
    """Returns Spearman's correlation of the attributions of each record, absolute ones by default.

    Args:
        one: (n, ...) values by feature.
        other: (n, ...) values by feature.
        features: (n, ...) which of them are real; all by default.
        signed: keeps the signs. Sizes of two networks' maps agree wherever a record is far from its baseline, whatever
            the networks have learnt; signs do not.

    Returns:
        (n,) correlations; 0 where a map is constant.
    """
    flat = [values.detach().flatten(1).cpu() for values in (one, other)]
    sizes = [(values if signed else values.abs()).numpy() for values in flat]
    if features is None or bool(features.all()):
        return spearman(*sizes)
    real = features.flatten(1).cpu().numpy()
    return np.array([spearman(*(values[i][None, real[i]] for values in sizes))[0] for i in range(len(real))])


def spearman(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns Spearman's correlation of each row.

    Args:
        one: (n, k) numbers.
        other: (n, k) numbers.

    Returns:
        (n,) correlations; 0 where a row is constant.
    """
    ranks = [_ranks(values) for values in (one, other)]
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    scale = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    return (centred[0] * centred[1]).sum(1) / np.maximum(scale, 1e-12)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Returns the rank of each number in its row, from 1; equal ones share the mean of theirs."""
    order = np.argsort(values, axis=1)
    ordered = np.take_along_axis(values, order, axis=1)
    places = np.arange(1.0, values.shape[1] + 1)
    found = np.empty(values.shape)
    np.put_along_axis(found, order, np.broadcast_to(places, values.shape), axis=1)
    tied = ~(ordered[:, :-1] < ordered[:, 1:]).all(axis=1)
    if tied.any():
        found[tied] = rankdata(values[tied], axis=1)
    return found


@register("explanation_measure")
class Cascade(ExplanationMeasure):
    """Likeness of the map to those of the network with more and more layers drawn again, from the last one down."""

    name: Literal["cascade"] = "cascade"
    title: ClassVar[str] = "Likeness under random layers"
    meaning: ClassVar[str] = (
        "Mean rank correlation of a map with those of the network whose last layers, one more each time, have random "
        "weights. The network as it was trained is not among them."
    )
    catches: ClassVar[str] = "Maps that show the record and not what was learnt, as edge detectors do."
    misses: ClassVar[str] = "Whether a map that depends on the weights is right."
    better: ClassVar[Literal["lower"]] = "lower"
    needs_method: ClassVar[bool] = True
    most: int = Field(default=6, ge=1)
    """Greatest number of stages; of deeper networks, several layers are drawn again in one."""

    def score(self, records: MeasuredRecords, explained: MeasuredMap) -> Tensor:
        assert explained.again is not None
        found: list[np.ndarray] = []
        for network in cascade(records.model, seeds.torch_seed(records.seed, "cascade"), most=self.most):
            values = explained.again(network, records.x)
            found.append(rank_agreement(explained.values, values, records.features))
        if not found:  # a model without weights
            return torch.full_like(records.whole, torch.nan)
        return torch.from_numpy(np.mean(found, axis=0)).to(records.x)


def cascade(model: nn.Module, seed: int, *, most: int) -> Iterator[nn.Module]:
    """Yields the network with its last layers drawn again, a stage more each time.

    Args:
        model: trained; not changed.
        seed: of the drawing.
        most: greatest number of stages.

    Yields:
        Networks; the last has no trained layer left. The trained network itself is not among them.
    """
    layers = [name for name, layer in model.named_modules() if list(layer.parameters(recurse=False))]
    layers.reverse()
    whole = dict(randomised(model, seed).named_parameters())
    stages = min(most, len(layers))
    for stage in range(1, stages + 1):
        chosen = layers[: len(layers) * stage // stages]
        other = copy.deepcopy(model)
        with torch.no_grad():
            for name, parameter in other.named_parameters():
                if name.rpartition(".")[0] in chosen:
                    parameter.copy_(whole[name])
        yield other
