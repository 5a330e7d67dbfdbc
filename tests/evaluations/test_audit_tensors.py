"""A bug that one tensor, one step or the sampling of a trainer has is caught by the check that looks at it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.evaluations.audit import Audit
from assay.evaluations.canary_runs import in_gradients
from assay.evaluations.subject import Subject
from assay.models.mlp import MLP
from assay.privacy.accounting import Mechanism
from assay.privacy.update import PrivateUpdate, _normal
from assay.recipes import Privacy, Recipe, Training
from assay.results import Check

Make = Callable[..., Subject]
RECORDS, STEPS = 80, 16
NORM = 0.05
"""Clipping norm: so small that every record of these networks is clipped."""


def concluded(audit: Audit, subject: Subject) -> list[Any]:
    """What an audit says, read as one of as many as it states."""
    return list(audit.read(audit.measure(subject)))


@pytest.fixture(scope="module")
def subject(make: Make) -> Callable[..., Subject]:
    """``subject(rate=…, network=…, training settings)``: a small network, each record drawn at that rate."""

    def of(
        *,
        rate: float = 0.5,
        network: Any = MLP(hidden=(8,)),  # noqa: B008 (frozen)
        shape: tuple[int, ...] = (5,),
        seed: int = 0,
        privacy: dict[str, Any] | None = None,
        **training: Any,
    ) -> Subject:
        generator = np.random.default_rng(5)
        y = np.arange(RECORDS + 20) % 2
        x = generator.normal(size=(len(y), *shape)) + y.reshape(-1, *[1] * len(shape))
        epochs = round(STEPS * rate)
        settings = {"epochs": epochs, "batch_size": round(RECORDS * rate), "optimizer": "sgd", **training}
        return make(
            nn.Identity(),
            x,
            y,
            train=np.arange(RECORDS),
            recipe=Recipe(
                training=Training(**{"learning_rate": 0.1, **settings}),
                privacy=Privacy(**{"epsilon": 4.0, "max_grad_norm": NORM, **(privacy or {})}),
            ),
            network=lambda: network.build(shape, 2, seed=0),
            seed=seed,
        )

    return of


def checks(subject: Subject, *, canaries: int = 80) -> dict[str, Check]:
    """What an audit says, by rule."""
    found = concluded(Audit(canaries=canaries), subject)
    return {check.rule: check for check in found if isinstance(check, Check)}


def failed(found: dict[str, Check]) -> set[str]:
    return {rule for rule, check in found.items() if check.verdict == "fail"}


def per_record(losses: Tensor, parameters: list[Tensor]) -> list[list[Tensor]]:
    """The gradient of each record, by plain autograd."""
    return [
        [
            torch.zeros_like(p) if g is None else g
            for p, g in zip(
                parameters,
                torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True),
                strict=True,
            )
        ]
        for loss in losses
    ]


def length(gradient: list[Tensor]) -> float:
    return float(torch.cat([g.flatten() for g in gradient]).norm())


class Counting(PrivateUpdate):
    """Sound; knows how many records there are."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.count = settings["records"]


class Naive(Counting):
    """Clips record by record, by plain autograd: sound, and easy to break."""

    def __init__(self, model: nn.Module, *args: Any, **settings: Any) -> None:
        super().__init__(model, *args, **settings)
        self._named = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def gradients(self, losses: Tensor) -> list[Tensor]:
        if not len(losses):
            return [torch.zeros_like(p) for p in self._named.values()]
        with self._gradients.paused():
            every = per_record(losses, list(self._named.values()))
        return [torch.stack(own).sum(0) for own in zip(*self.clipped(every), strict=True)]

    def clipped(self, every: list[list[Tensor]]) -> list[list[Tensor]]:
        """All gradients, each clipped."""
        return [[g * self.factor(length(own)) for g in own] for own in every]

    def factor(self, norm: float) -> float:
        return min(1.0, NORM / max(norm, 1e-12))


class WholeNormForEachTensor(Naive):
    def clipped(self, every: list[list[Tensor]]) -> list[list[Tensor]]:
        return [[g * self.factor(float(g.norm())) for g in own] for own in every]


class HiddenWeightsUnclipped(Naive):
    def clipped(self, every: list[list[Tensor]]) -> list[list[Tensor]]:
        whole = super().clipped(every)
        return [
            [g if "weight_hh" in name else c for name, g, c in zip(self._named, own, clipped, strict=True)]
            for own, clipped in zip(every, whole, strict=True)
        ]


class ClippedByTheMeanNorm(Naive):
    def clipped(self, every: list[list[Tensor]]) -> list[list[Tensor]]:
        factor = self.factor(float(np.mean([length(own) for own in every])))
        return [[g * factor for g in own] for own in every]


class ClippedAfterAveraging(Naive):
    def clipped(self, every: list[list[Tensor]]) -> list[list[Tensor]]:
        mean = [torch.stack(own).mean(0) for own in zip(*every, strict=True)]
        return [[g * self.factor(length(mean)) for g in own] for own in every]


class NoiseBeforeClipping(Naive):
    def clipped(self, every: list[list[Tensor]]) -> list[list[Tensor]]:
        generator, scale = np.random.default_rng(len(every)), self.planned.noise_multiplier * NORM
        return super().clipped([[g + scale * _normal(generator, g) for g in own] for own in every])

    def finish(self, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        return [g / (self.planned.sample_rate * self.count) for g in total]


class Noisy(Counting):
    """Sound; ``noise`` is the place for a bug."""

    def finish(self, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        generator, scale = np.random.default_rng([step, 3]), self.planned.noise_multiplier * NORM
        noise = self.noise([_normal(generator, g) for g in total], batch, step)
        expected = self.planned.sample_rate * self.count
        return [(g + scale * n) / expected for g, n in zip(total, noise, strict=True)]

    def noise(self, noise: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        return noise


class NoneOnBiases(Noisy):
    def noise(self, noise: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        return [0 * n if n.dim() == 1 else n for n in noise]


class OnTheLastTensorOnly(Noisy):
    def noise(self, noise: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        return [*(0 * n for n in noise[:-1]), noise[-1]]


class HalfOfTheNoise(Noisy):
    def noise(self, noise: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        return [n / 2 for n in noise]


class HalfInOneLargeTensor(Noisy):
    def noise(self, noise: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        return [noise[0] / 2, *noise[1:]]


class NoneAtOneStep(Noisy):
    def noise(self, noise: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        return [0 * n for n in noise] if step == 5 else noise


class DrawnOnce(Noisy):
    def noise(self, noise: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        generator = np.random.default_rng(1)
        return [_normal(generator, n) for n in noise]


class OneSmallTensorDrawnOnce(Noisy):
    def noise(self, noise: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        drawn = DrawnOnce.noise(self, noise, batch, step)  # type: ignore[arg-type]
        return [drawn[k] if k == 3 else n for k, n in enumerate(noise)]


class TakenBackAtTheNextStep(Noisy):
    def noise(self, noise: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        generator = np.random.default_rng(step // 2)
        return [(1 - 2 * (step % 2)) * _normal(generator, n) for n in noise]


class OneSeedForEachTensor(Noisy):
    def noise(self, noise: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        return [_normal(np.random.default_rng(step), n) for n in noise]


class TheSameForAllRows(Noisy):
    def noise(self, noise: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        return [n[:1].expand_as(n) if n.dim() > 1 else n for n in noise[:-1]] + noise[-1:]


class Uniform(Noisy):
    def noise(self, noise: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        generator = np.random.default_rng(step)
        return [torch.from_numpy(generator.uniform(-(3**0.5), 3**0.5, n.shape)).to(n) for n in noise]


class GrowingWithTheBatch(Noisy):
    def noise(self, noise: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        return [n * len(batch) / (self.planned.sample_rate * self.count) for n in noise]


class DividedByTheActualSize(Counting):
    def finish(self, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        expected = self.planned.sample_rate * self.count
        return [g * expected / max(len(batch), 1) for g in super().finish(total, batch, step)]


class WithRecordsInTheNoise(Noisy):
    def finish(self, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        return super().finish([3 * g for g in total], batch, step)


class OneSampleForAllSteps(Counting):
    def batch(self, step: int) -> np.ndarray:
        return super().batch(0)


class OneSampleForTwoSteps(Counting):
    def batch(self, step: int) -> np.ndarray:
        return super().batch(step % (STEPS // 2))


class FixedSize(Counting):
    def batch(self, step: int) -> np.ndarray:
        size = round(self.planned.sample_rate * self.count)
        return np.sort(np.random.default_rng(step).choice(self.count, size, replace=False))


class Shuffled(Counting):
    """Each record once an epoch of two batches, of sizes that vary as they should."""

    def batch(self, step: int) -> np.ndarray:
        first = super().batch(step - step % 2)
        return first if step % 2 == 0 else np.setdiff1d(np.arange(self.count), first)


class TwiceInABatch(Counting):
    def batch(self, step: int) -> np.ndarray:
        batch = super().batch(step)
        return np.concatenate([batch, batch[:1]])


class DrawnMoreOften(Counting):
    def batch(self, step: int) -> np.ndarray:
        return np.union1d(super().batch(step), super().batch(step + 1000))


class OneStepLessIsTold(Counting):
    def mechanism(self, steps: int) -> Mechanism:
        return replace(super().mechanism(steps), steps=max(0, steps - 1))


class RawGradientsReachTheWeights(Counting):
    def __init__(self, model: nn.Module, *args: Any, **settings: Any) -> None:
        super().__init__(model, *args, **settings)
        self._weights = [p for p in model.parameters() if p.requires_grad]

    def finish(self, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        with torch.no_grad():
            for weights, gradient in zip(self._weights, total, strict=True):
                weights.sub_(1e-3 * gradient)
        return super().finish(total, batch, step)


BUGS: list[tuple[type[PrivateUpdate], str]] = [
    (WholeNormForEachTensor, "one_record_bounded"),
    (ClippedByTheMeanNorm, "clipped_record_by_record"),
    (ClippedAfterAveraging, "one_record_bounded"),
    (NoiseBeforeClipping, "one_record_bounded"),
    (NoiseBeforeClipping, "noise_in_every_tensor"),
    (NoneOnBiases, "noise_in_every_tensor"),
    (OnTheLastTensorOnly, "noise_in_every_tensor"),
    (HalfOfTheNoise, "noise_in_every_tensor"),
    (HalfInOneLargeTensor, "noise_in_every_tensor"),
    (NoneAtOneStep, "noise_in_every_tensor"),
    (DrawnOnce, "noise_independent"),
    (OneSmallTensorDrawnOnce, "noise_independent"),
    (TakenBackAtTheNextStep, "noise_independent"),
    (OneSeedForEachTensor, "noise_independent"),
    (TheSameForAllRows, "noise_independent"),
    (GrowingWithTheBatch, "noise_independent"),
    (DividedByTheActualSize, "noise_independent"),
    (WithRecordsInTheNoise, "noise_independent"),
    (Uniform, "noise_gaussian"),
    (OneSampleForAllSteps, "poisson_sampling"),
    (OneSampleForTwoSteps, "poisson_sampling"),
    (FixedSize, "poisson_sampling"),
    (Shuffled, "poisson_sampling"),
    (TwiceInABatch, "poisson_sampling"),
    (DrawnMoreOften, "poisson_sampling"),
    (OneStepLessIsTold, "steps_as_claimed"),
    (RawGradientsReachTheWeights, "weights_follow_releases"),
]


@pytest.mark.parametrize(("bug", "rule"), BUGS, ids=[f"{bug.__name__}-{rule}" for bug, rule in BUGS])
def test_the_check_that_looks_at_a_bug_catches_it(
    subject: Callable[..., Subject], bug: type[PrivateUpdate], rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.training.build.PrivateUpdate", bug)
    assert rule in failed(checks(subject()))


class LastState(nn.Module):
    """Logits from the last state of torch's LSTM."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(inputs, 3, batch_first=True), nn.Linear(3, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0][:, -1])


class TorchLSTM:
    """Builds networks as an ``Architecture`` does."""

    def build(self, shape: tuple[int, ...], classes: int, *, seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return LastState(shape[1], classes)


def test_hidden_weights_of_an_lstm_that_nobody_clips_are_caught(
    subject: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"network": TorchLSTM(), "shape": (6, 2), "rate": 0.25}
    assert not failed(checks(subject(**asked), canaries=40))
    monkeypatch.setattr("assay.training.build.PrivateUpdate", HiddenWeightsUnclipped)
    found = checks(subject(**asked), canaries=40)
    assert failed(found) == {"one_record_bounded"}
    assert found["one_record_bounded"].figure > 1.005


@pytest.mark.parametrize("sound", [Naive, Noisy])
def test_a_sound_trainer_passes_whoever_wrote_it(
    subject: Callable[..., Subject], sound: type[PrivateUpdate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.training.build.PrivateUpdate", sound)
    assert not failed(checks(subject()))


@pytest.mark.parametrize(
    "asked",
    [
        {"privacy": {"clipping": "automatic"}, "optimizer": "adam", "weight_decay": 0.01},
        {"privacy": {"clipping": "per_layer"}, "momentum": 0.9, "averaging": 0.9, "schedule": "cosine"},
        {"rate": 0.25, "records_at_once": 30},
        {"rate": 1.0},
    ],
    ids=["automatic", "per_layer", "pieces", "whole batches"],
)
def test_sound_recipes_of_all_kinds_pass(subject: Callable[..., Subject], asked: dict[str, Any]) -> None:
    found = checks(subject(**asked, seed=3))
    assert {check.verdict for rule, check in found.items() if rule != "audit_below_claim"} <= {"pass", "warn"}
    assert found["weights_follow_releases"].figure == 0.0
    assert found["steps_as_claimed"].figure == STEPS
    assert found["one_record_bounded"].figure <= 1.001


def test_canaries_lie_in_every_tensor_and_show_noise_that_one_kind_of_tensor_lacks(
    subject: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 60 seeds none fails: each may with probability 0.002."""
    asked = subject(network=MLP(hidden=(60, 40)), rate=1.0)
    evidence = in_gradients(asked, canaries=200, watch=None)
    assert evidence.in_tensors == 20
    assert len(evidence.scores) == 200
    monkeypatch.setattr("assay.training.build.PrivateUpdate", NoneOnBiases)
    broken = in_gradients(asked, canaries=200, watch=None)
    scores, inside = broken.scores[-20:], broken.inside[-20:]
    sure = np.abs(scores) > 1000
    assert sure.sum() >= 6
    assert ((scores[sure] > 0) == inside[sure]).all()
    # What the others show does not change at all.
    np.testing.assert_array_equal(np.abs(evidence.scores[-20:]) > 1000, np.zeros(20, bool))


def accused(subject: Callable[..., Subject], seeds: range) -> list[set[str]]:
    """What fails, seed by seed, of recipes that take turns."""
    kinds: list[dict[str, Any]] = [
        {},
        {"rate": 0.25, "privacy": {"epsilon": 1.0}},
        {"rate": 1.0, "privacy": {"clipping": "automatic"}},
        {"optimizer": "adam", "privacy": {"epsilon": 8.0}},
    ]
    return [failed(checks(subject(seed=seed, **kinds[seed % len(kinds)]))) for seed in seeds]


def test_a_sound_trainer_is_not_accused(subject: Callable[..., Subject]) -> None:
    assert accused(subject, range(100, 104)) == [set()] * 4


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 60, 6))
def test_a_sound_trainer_is_accused_no_more_often_than_stated(subject: Callable[..., Subject], first: int) -> None:
    """Of 60 seeds none fails: each may with probability 0.002."""
    assert accused(subject, range(first, first + 6)) == [set()] * 6
