"""What holds for every explanation method: the judge, and values that depend on the record alone."""

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import assay.explain.methods  # noqa: F401
from assay.explain.base import Attribution, Explained, Explainer, ExplanationError, NotFiniteError
from assay.explain.methods.integrated_gradients import IntegratedGradients
from assay.explain.references import Reference
from assay.explain.scalars import lead, log_odds
from assay.registry import build, methods
from tests.explaining import reference

DOUBLE = torch.float64
SETTINGS: dict[str, dict[str, Any]] = {
    "exact_shapley": {"groups": 6},
    "kernel_shap": {"budget": 16, "groups": 7},
    "smooth_gradient": {"copies": 6},
    "lime": {"samples": 60, "groups": 16},
}
"""Smaller than usual, to be fast."""
NAMES = [name for name, method in methods("explainer").items() if method.__module__.startswith("assay.")]
"""Of Assay: other tests register methods too."""
FOR_TABLES = [name for name in NAMES if name not in {"grad_cam", "guided_grad_cam", "attention"}]
NOT_FOR_TEXTS = {"deep_shap", "expected_gradients", "gradient_shap", "lrp"}
FOR_IMAGES = [name for name in NAMES if name != "attention"]


def explainer(name: str) -> Explainer:
    found = build("explainer", {"name": name, **SETTINGS.get(name, {})})
    assert isinstance(found, Explainer)
    return found


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


@pytest.fixture
def mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)).to(DOUBLE)


@pytest.fixture
def cnn() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 2)]
    return nn.Sequential(*layers).to(DOUBLE)


IMAGES = numbers(5, 2, 8, 8)
TABLE = numbers(5, 6)
THREE, TWO = torch.tensor([0, 1, 2, 1, 0]), torch.tensor([0, 1, 1, 0, 1])


def of_table(name: str, model: nn.Module, rows: Tensor) -> Tensor:
    return explainer(name).explain(model, TABLE[rows], THREE[rows], reference(numbers(4, 6, seed=1)), seed=3).values


# The scalar


# LRP refuses the sum of two networks; tests/explain/test_lrp.py shifts the last layer.
@pytest.mark.parametrize("name", [n for n in FOR_TABLES if n != "lrp"])
@pytest.mark.parametrize("shift", [-5.0, 100.0])
def test_what_is_added_to_all_logits_explains_nothing(name: str, shift: float, mlp: nn.Module) -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.all = mlp, nn.Linear(6, 3, bias=False).to(DOUBLE)
            with torch.no_grad():
                self.all.weight.zero_()
                self.all.weight[:, 3] = shift

        def forward(self, x: Tensor) -> Tensor:
            return self.network(x) + self.all(x)

    rows = torch.arange(5)
    torch.testing.assert_close(of_table(name, Shifted(), rows), of_table(name, mlp, rows), rtol=0, atol=1e-9)


def test_with_two_classes_both_scalars_are_the_difference_of_the_logits() -> None:
    logits = numbers(7, 2)
    target = torch.tensor([0, 1, 0, 1, 1, 0, 0])
    difference = (logits[:, 1] - logits[:, 0]) * (2 * target - 1)
    torch.testing.assert_close(log_odds(logits, target), difference)
    torch.testing.assert_close(lead(logits, target), difference)


def test_log_odds_are_those_of_the_probability() -> None:
    logits = numbers(7, 4)
    target = torch.tensor([0, 1, 2, 3, 1, 0, 2])
    p = logits.softmax(1).gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(log_odds(logits, target), (p / (1 - p)).log())


# The record alone


@pytest.mark.parametrize("name", FOR_TABLES)
def test_a_record_is_explained_alike_alone_and_in_any_batch(name: str, mlp: nn.Module) -> None:
    whole = of_table(name, mlp, torch.arange(5))
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(of_table(name, mlp, order), whole[order], rtol=0, atol=1e-9)
    for row in range(5):
        torch.testing.assert_close(of_table(name, mlp, torch.tensor([row])), whole[row : row + 1], rtol=0, atol=1e-9)


class Words(nn.Module):
    """Mean of the words that are there, through a small network."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).to(DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        here = (x != 0).any(-1, keepdim=True)
        out: Tensor = self.layers((x * here).sum(1) / here.sum(1).clamp_min(1))
        return out


# The first three need lines or rules that texts have not, and LRP a chain of layers.
@pytest.mark.parametrize("name", [n for n in FOR_TABLES if n not in NOT_FOR_TEXTS])
def test_padding_gets_nothing_and_more_of_it_changes_nothing(name: str) -> None:
    short = numbers(4, 5, 3)
    for row in range(4):
        short[row, 2 + row :] = 0
    long = torch.cat([short, torch.zeros(4, 3, 3, dtype=DOUBLE)], dim=1)
    found = []
    for x in (short, long):
        about = reference(torch.zeros(1, *x.shape[1:], dtype=DOUBLE), "text")
        values = explainer(name).explain(Words(), x, torch.tensor([0, 1, 1, 0]), about).values
        assert not values[(x == 0).all(-1)].any()
        found.append(values)
    torch.testing.assert_close(found[1][:, :5], found[0], rtol=0, atol=1e-9)


# The model afterwards


def state_of(model: nn.Module) -> dict[str, Any]:
    return {
        "keys": list(model.state_dict()),
        "values": [value.clone() for value in model.state_dict().values()],
        "modes": [layer.training for layer in model.modules()],
        "names": [sorted(vars(layer)) for layer in model.modules()],
        "hooks": [len(layer._forward_hooks) + len(layer._backward_hooks) for layer in model.modules()],
        "wanted": [weight.requires_grad for weight in model.parameters()],
        "gradients": [None if w.grad is None else w.grad.clone() for w in model.parameters()],
    }


def generators() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index,union-attr]


@pytest.mark.parametrize("name", FOR_IMAGES)
def test_the_model_and_the_global_generators_are_as_before(name: str, cnn: nn.Module) -> None:
    cnn.train()
    cnn[2].eval()
    cnn[0].weight.requires_grad_(False)
    cnn(IMAGES).sum().backward()
    cnn[1].register_forward_hook(lambda *_: None)
    before, drawn = state_of(cnn), generators()
    try:
        explainer(name).explain(cnn, IMAGES, TWO, reference(numbers(4, 2, 8, 8, seed=1), "image"))
    except ExplanationError as error:
        assert name == "deep_shap", error
    after = state_of(cnn)
    assert {key: after[key] for key in ("keys", "modes", "names", "hooks", "wanted")} == {
        key: before[key] for key in ("keys", "modes", "names", "hooks", "wanted")
    }
    for key in ("values", "gradients"):
        for one, other in zip(after[key], before[key], strict=True):
            assert (one is None and other is None) or torch.equal(one, other)
    assert generators() == drawn


# What the judge refuses, and reports


class Given(Explainer):
    """Returns what a test gives."""

    name: str = "given"
    title = "Given"
    out: Any = None

    def attribute(
        self, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, draw: np.random.Generator
    ) -> Explained:
        torch.rand(3)
        model.leftover = 1  # type: ignore[assignment]
        return Explained(values=self.out)


def judged(model: nn.Module, out: Tensor, target: Tensor = THREE) -> Attribution:
    return Given(out=out).explain(model, TABLE, target, reference(torch.zeros(1, 6, dtype=DOUBLE)))


def test_values_of_another_shape_or_not_finite_are_refused(mlp: nn.Module) -> None:
    with pytest.raises(ExplanationError, match=r"shape \(5, 5\)"):
        judged(mlp, torch.zeros(5, 5, dtype=DOUBLE))
    bad = torch.zeros(5, 6, dtype=DOUBLE)
    bad[3, 1] = torch.nan
    with pytest.raises(NotFiniteError, match="record 3"):
        judged(mlp, bad)
    assert not hasattr(mlp, "leftover")


@pytest.mark.parametrize("beyond", [-1, 3])
def test_a_target_that_is_no_class_is_refused(mlp: nn.Module, beyond: int) -> None:
    with pytest.raises(ValueError, match=f"target {beyond} is no class: the model has 3"):
        judged(mlp, torch.zeros(5, 6, dtype=DOUBLE), torch.tensor([0, 1, beyond, 0, 0]))


def test_a_background_of_another_shape_is_refused(mlp: nn.Module) -> None:
    with pytest.raises(ValueError, match=r"records of shape \(5,\)"):
        explainer("integrated_gradients").explain(mlp, TABLE, THREE, reference(torch.zeros(1, 5, dtype=DOUBLE)))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_error_of_a_sum_is_relative_to_the_change_explained(mlp: nn.Module, scale: float) -> None:
    with torch.no_grad():
        for parameter in mlp[2].parameters():
            parameter.mul_(scale)
    found = judged(mlp, torch.zeros(5, 6, dtype=DOUBLE))
    torch.testing.assert_close(found.error, torch.ones(5, dtype=DOUBLE))


def test_a_constant_model_is_explained_by_nothing() -> None:
    model = nn.Linear(6, 3).to(DOUBLE)
    with torch.no_grad():
        model.weight.zero_()
    for name in FOR_TABLES:
        found = explainer(name).explain(model, TABLE, THREE, reference(numbers(4, 6, seed=1)))
        assert not found.values.any(), name
        assert not found.error.nan_to_num().any(), name


@pytest.fixture
def _answers_nan() -> Iterator[nn.Module]:
    class Nan(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :3] * torch.nan

    yield Nan()


def test_a_model_that_answers_nan_is_refused(_answers_nan: nn.Module) -> None:
    with pytest.raises(NotFiniteError):
        explainer("integrated_gradients").explain(_answers_nan, TABLE, THREE, reference(numbers(1, 6)))


def test_the_layers_are_not_touched_where_nothing_changed(mlp: nn.Module) -> None:
    """Another thread may ask the model in the meantime: what is emptied and filled again would answer wrongly."""
    written: list[str] = []

    class Watched(dict[str, Any]):
        def clear(self) -> None:
            written.append("clear")

        def update(self, *given: Any, **named: Any) -> None:
            written.append("update")

    mlp.eval()
    object.__setattr__(mlp, "_modules", Watched(mlp._modules))
    judged(mlp, torch.zeros(5, 6, dtype=DOUBLE))
    assert not written


def test_a_compiled_model_is_explained_and_left_as_it_was(mlp: nn.Module) -> None:
    compiled = torch.jit.trace(mlp, TABLE)
    about = reference(torch.zeros(1, 6, dtype=DOUBLE))
    expected = explainer("saliency").explain(mlp, TABLE, THREE, about).values
    torch.testing.assert_close(explainer("saliency").explain(compiled, TABLE, THREE, about).values, expected)
    assert all(weight.requires_grad for weight in compiled.parameters())


def test_a_change_that_is_rounding_is_no_error() -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    with torch.no_grad():
        model.weight.zero_()
    x, background = TABLE.float(), numbers(50, 6, seed=1).float()
    for name in ("expected_gradients", "gradient_shap", "deep_shap", "integrated_gradients"):
        assert float(explainer(name).explain(model, x, THREE, reference(background)).error.max()) < 0.02, name


@pytest.mark.parametrize("targets", [torch.tensor([1]), torch.zeros(4, dtype=torch.long)])
def test_a_target_is_given_for_each_record(mlp: nn.Module, targets: Tensor) -> None:
    with pytest.raises(ValueError, match="one target for each record"):
        judged(mlp, torch.zeros(5, 6, dtype=DOUBLE), targets)
    with pytest.raises(ValueError, match="one target for each record"):
        explainer("saliency").explain(mlp, TABLE[:0], THREE[:0], reference(torch.zeros(1, 6, dtype=DOUBLE)))


@pytest.mark.parametrize(
    "name", ["exact_shapley", "permutation_shapley", "kernel_shap", "lime", "occlusion", "integrated_gradients"]
)
def test_a_text_of_padding_alone_is_explained_by_nothing(name: str) -> None:
    x = torch.zeros(2, 4, 3, dtype=DOUBLE)
    found = explainer(name).explain(Words(), x, torch.tensor([0, 1]), reference(x[:1], "text"))
    assert not found.values.any()


def test_smoothing_depends_on_no_other_record(mlp: nn.Module) -> None:
    about = reference(torch.zeros(1, 6, dtype=DOUBLE))
    whole = explainer("smooth_gradient").explain(mlp, TABLE, THREE, about).values
    for row in range(5):
        alone = explainer("smooth_gradient").explain(mlp, TABLE[row : row + 1], THREE[row : row + 1], about).values
        torch.testing.assert_close(alone[0], whole[row])
    assert not torch.allclose(whole, explainer("saliency").explain(mlp, TABLE, THREE, about).values)


# Targets and layers that no explanation is for


def test_targets_of_any_whole_numbers_are_classes_and_others_are_refused(mlp: nn.Module) -> None:
    usual = of_table("integrated_gradients", mlp, torch.arange(5))
    method = explainer("integrated_gradients")
    about = reference(numbers(4, 6, seed=1))
    for kind in (torch.uint8, torch.int32):
        found = method.explain(mlp, TABLE, THREE.to(kind), about, seed=3).values
        torch.testing.assert_close(found, usual)
    for kind in (torch.bool, torch.float32):
        with pytest.raises(ValueError, match="no class numbers"):
            method.explain(mlp, TABLE, THREE.to(kind), about)


def test_a_layer_that_reads_the_other_records_is_refused() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 3)).to(DOUBLE)
    with pytest.raises(ExplanationError, match="layer '1' normalises by the batch"):
        of_table("saliency", model, torch.arange(5))


def test_two_threads_leave_a_model_that_trains_as_it_was() -> None:
    """The second begins while the first explains, and would take the changed model for the one to restore."""

    class Slow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            time.sleep(0.01)
            out: Tensor = self.head(self.inner(x)[0][:, -1])
            return out

    model, x = Slow().train(), torch.randn(2, 5, 3)
    about = reference(torch.zeros(1, 5, 3), "signal")

    def explain(delay: float) -> None:
        time.sleep(delay)
        IntegratedGradients().explain(model, x, torch.tensor([0, 1]), about)

    threads = [threading.Thread(target=explain, args=(delay,)) for delay in (0.0, 0.015)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert model.training and all(weight.requires_grad for weight in model.parameters())
    assert not model.inner._forward_hooks and not model.inner._forward_pre_hooks
