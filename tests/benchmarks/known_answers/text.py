"""Rows on words: padding, masks, and attention that is no attribution."""

import numpy as np
import torch
from torch import Tensor

from assay.explain.measures.curves import areas
from assay.explain.measures.replacements.base import panel
from tests.benchmarks.known_answers.curves import measured
from tests.benchmarks.known_answers.networks import DOUBLE, CountedWords, UnusedAttention, drawn
from tests.benchmarks.known_answers.row import Row, below
from tests.benchmarks.known_answers.systems import assay, captum

WORDS = torch.cat([drawn(2, 4, 3), torch.zeros(2, 3, 3, dtype=DOUBLE)], 1)
"""Two texts of four words with three places of padding."""
METHODS = ("integrated_gradients", "saliency", "smooth_gradient", "permutation_shapley", "occlusion")


def _values(method: str, x: Tensor) -> Tensor:
    return assay(method, CountedWords(), x, torch.zeros_like(x[:1]), None, "text").values


def _on_padding(values: Tensor) -> float:
    return float(values[:, 4:].abs().max())


def _longer(x: Tensor) -> Tensor:
    return torch.cat([x, torch.zeros(len(x), 5, 3, dtype=DOUBLE)], 1)


def _moved_by_padding(method: str) -> float:
    short = _values(method, WORDS)
    return float((_values(method, _longer(WORDS))[:, :7] - short).abs().max() / short.abs().max())


def _missed_in_captum() -> float:
    from captum.attr import IntegratedGradients

    values, delta = IntegratedGradients(CountedWords()).attribute(WORDS, target=1, return_convergence_delta=True)
    return float((delta.abs() / values.flatten(1).abs().amax(1)).max())


def _gain_of_attention() -> float:
    """How much better the map of an attention that is not used is than a random map, by insertion, over records."""
    x = drawn(200, 6, 3).abs()
    weights = assay("attention", UnusedAttention(), x, torch.zeros_like(x[:1]), None, "text").values.sum(-1, True)
    records = measured(UnusedAttention(), x, drawn(50, 6, 3, seed=1).abs(), "text")
    gains = []
    for replacement in panel("text"):
        fill = replacement.prepare(records)
        own, other = (areas(records, scores, fill).between for scores in (weights, records.ties))
        gains.append(own - other)
    gain = torch.stack(gains).mean(0).numpy()
    return float(gain.mean() - 1.96 * gain.std() / np.sqrt(len(gain)))


ROWS = (
    *(
        Row(
            fault="A13",
            name=f"padding_{method}",
            input=f"{method.replace('_', ' ')} of texts with padding: greatest value on padding",
            right="0",
            accepts=lambda given: given == 0,
            assay=lambda method=method: _on_padding(_values(method, WORDS)),
            captum={
                "integrated_gradients": lambda: _on_padding(captum("IntegratedGradients", CountedWords(), WORDS)),
                "saliency": lambda: _on_padding(captum("Saliency", CountedWords(), WORDS.clone())),
                "smooth_gradient": lambda: _on_padding(_smooth_in_captum()),
            }.get(method),
        )
        for method in METHODS
    ),
    *(
        Row(
            fault="A13",
            name=f"more_padding_{method}",
            input=f"{method.replace('_', ' ')} of texts with five more places of padding: change of a value, relative",
            right="at most 1e-6",
            accepts=below(1e-6),
            assay=lambda method=method: _moved_by_padding(method),
        )
        for method in METHODS
    ),
    Row(
        fault="A13",
        name="path_through_a_mask",
        input="score that jumps by 0.5 where the first word appears: sum of integrated gradients against the change",
        right="at most 1 % of the greatest value",
        accepts=below(0.01),
        assay=lambda: float(
            assay("integrated_gradients", CountedWords(), WORDS, torch.zeros_like(WORDS[:1]), None, "text").error.max()
        ),
        captum=_missed_in_captum,
    ),
    Row(
        fault="A22",
        name="unused_attention",
        input="attention whose head is multiplied by 0: lower bound of the gain of its map over a random one",
        right="at most 0: the map is not called faithful",
        accepts=below(0.0),
        assay=_gain_of_attention,
    ),
)


def _smooth_in_captum() -> Tensor:
    from captum.attr import NoiseTunnel, Saliency

    made = NoiseTunnel(Saliency(CountedWords()))
    return made.attribute(WORDS.clone(), target=1, nt_samples=10, nt_type="smoothgrad", abs=False)
