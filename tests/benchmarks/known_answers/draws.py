"""Rows on what is drawn at random, and on a record's neighbours."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.benchmarks.known_answers.networks import drawn, perceptron
from tests.benchmarks.known_answers.row import Row, below, says
from tests.benchmarks.known_answers.systems import assay, captum, shap_gradient, shap_kernel, shap_of_function

X, BACKGROUND = drawn(5, 6), drawn(4, 6, seed=1)
MODEL = perceptron()
Values = Callable[[Tensor], Tensor]


def _states() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index,union-attr]


def _generators(values: Values) -> str:
    torch.manual_seed(5)
    np.random.seed(5)
    before = _states()
    values(X)
    return "as before" if _states() == before else "changed"


def _twice(values: Values) -> str:
    torch.manual_seed(6)
    np.random.seed(6)
    return "equal" if torch.equal(values(X), values(X)) else "different"


def _moved(values: Values) -> float:
    """Greatest change of a value when its record is explained alone, or in another order, relative."""

    def seeded(x: Tensor) -> Tensor:
        torch.manual_seed(7)  # for peers whose seed is no argument
        np.random.seed(7)
        return values(x)

    whole, order = seeded(X), torch.tensor([3, 0, 4, 1, 2])
    alone = torch.cat([seeded(X[row : row + 1]) for row in range(len(X))])
    permuted = torch.empty_like(whole)
    permuted[order] = seeded(X[order])
    return float(torch.stack([alone - whole, permuted - whole]).abs().max() / whole.abs().max())


def ours(method: str | dict[str, Any]) -> Values:
    """Assay's values of a method."""
    return lambda x: assay(method, MODEL, x, BACKGROUND).values


def _noise_tunnel(x: Tensor) -> Tensor:
    from captum.attr import NoiseTunnel, Saliency

    return NoiseTunnel(Saliency(MODEL)).attribute(x.clone(), target=1, nt_samples=10, nt_type="smoothgrad", abs=False)


def _shap_permutation(x: Tensor) -> Tensor:
    return shap_of_function("PermutationExplainer", MODEL, x, BACKGROUND, seed=0)


MEAN = BACKGROUND.mean(0, keepdim=True)
DRAWING: dict[str, dict[str, Values]] = {
    "smooth_gradient": {"assay": ours("smooth_gradient"), "captum": _noise_tunnel},
    "expected_gradients": {
        "assay": ours("gradient_shap"),
        "captum": lambda x: captum("GradientShap", MODEL, x, baselines=BACKGROUND),
        "shap": lambda x: shap_gradient(MODEL, x, BACKGROUND),
    },
    "permutation_shapley": {
        "assay": ours("permutation_shapley"),
        "captum": lambda x: captum("ShapleyValueSampling", MODEL, x, baselines=MEAN),
        "shap": _shap_permutation,
    },
    "kernel_shap": {
        "assay": ours({"name": "kernel_shap", "budget": 32}),
        "captum": lambda x: captum("KernelShap", MODEL, x, baselines=MEAN),
        "shap": lambda x: shap_kernel(MODEL, x, BACKGROUND, nsamples=32),
    },
    "lime": {"assay": ours("lime"), "captum": lambda x: captum("Lime", MODEL, x, baselines=MEAN)},
    "gradient_shap": {"assay": ours("gradient_shap")},
}
"""Methods that draw at random, by system, each as its users call it; shap's seeds are arguments, Captum has none."""
WITHOUT_DRAWING: dict[str, dict[str, Values]] = {
    "integrated_gradients": {
        "assay": ours("integrated_gradients"),
        "captum": lambda x: captum("IntegratedGradients", MODEL, x, baselines=MEAN),
    },
    "deep_shap": {
        "assay": ours("deep_shap"),
        "captum": lambda x: captum("DeepLiftShap", MODEL, x, baselines=BACKGROUND),
    },
    "occlusion": {
        "assay": ours("occlusion"),
        "captum": lambda x: captum("Occlusion", MODEL, x, baselines=MEAN, sliding_window_shapes=(1,)),
    },
    "exact_shapley": {
        "assay": ours("exact_shapley"),
        "captum": lambda x: captum("ShapleyValues", MODEL, x, baselines=MEAN),
        "shap": lambda x: shap_of_function("ExactExplainer", MODEL, x, BACKGROUND),
    },
}


def _asked(question: Callable[[Values], Any], systems: dict[str, Values]) -> dict[str, Callable[[], Any]]:
    return {system: lambda values=values: question(values) for system, values in systems.items()}


ROWS = (
    *(
        Row(
            fault="A6",
            name=f"global_generators_{method}",
            input=f"states of the global generators of Python, NumPy and torch after {method.replace('_', ' ')}",
            right="as before",
            accepts=says("as before"),
            **_asked(_generators, systems),
        )
        for method, systems in DRAWING.items()
    ),
    *(
        Row(
            fault="A6",
            name=f"twice_{method}",
            input=f"{method.replace('_', ' ')}, the same call twice",
            right="equal bits",
            accepts=says("equal"),
            **_asked(_twice, systems),
        )
        for method, systems in DRAWING.items()
    ),
    *(
        Row(
            fault="A12",
            name=f"neighbours_{method}",
            input=f"{method.replace('_', ' ')} of five records: change of a value alone or in another order, relative",
            right="at most 1e-6",
            accepts=below(1e-6),
            **_asked(_moved, systems),
        )
        for method, systems in (DRAWING | WITHOUT_DRAWING).items()
    ),
)
