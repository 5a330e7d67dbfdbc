"""The audit tells a broken trainer from a sound one, whatever the recipe, and says what it could not have seen."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data.base import Tokens
from assay.evaluations.audit import Audit
from assay.evaluations.subject import Subject
from assay.executors import LocalExecutor
from assay.models.cnn import CNN
from assay.models.mlp import MLP
from assay.models.text_cnn import TextCNN
from assay.privacy.plan import planned
from assay.privacy.update import PrivateUpdate, _normal
from assay.recipes import Federation, Privacy, Recipe, Training
from assay.results import Check, Measurement
from assay.study.measure import run_trial
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study

Make = Callable[..., Subject]
RECORDS, STEPS, CLAIM = 200, 8, 4.0
FULL = Training(epochs=STEPS, batch_size=RECORDS, optimizer="sgd", learning_rate=0.1)
FLIP_AND_CROP = ({"name": "flip"}, {"name": "crop", "pixels": 2, "edge": "zero"})


def concluded(audit: Audit, subject: Subject) -> list[Any]:
    """What an audit says, read as one of as many as it states."""
    return list(audit.read(audit.measure(subject)))


@pytest.fixture(scope="session")
def private(make: Make) -> Callable[..., Subject]:
    """``private(seed=…, shape=…, privacy settings)``: a small network and whole batches of random records."""

    def subject(
        *,
        shape: tuple[int, ...] = (5,),
        training: Training = FULL,
        given: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Subject:
        generator = np.random.default_rng(5)
        y = np.arange(RECORDS + 60) % 2
        x = generator.normal(size=(len(y), *shape)) + y.reshape(-1, *[1] * len(shape))
        architecture = MLP(hidden=()) if len(shape) == 1 else CNN(channels=(4,), hidden=8)
        given, recipe = given or {}, {"privacy": {"epsilon": CLAIM}, **settings}
        return make(
            nn.Identity(),
            x,
            y,
            train=np.arange(RECORDS),
            recipe=Recipe(training=training, **recipe),
            network=lambda: architecture.build(shape, 2, seed=0),
            **given,
        )

    return subject


def audit(subject: Subject, **settings: Any) -> tuple[Measurement, Check]:
    row, check, *more = concluded(Audit(**settings), subject)
    assert isinstance(row, Measurement)
    assert isinstance(check, Check)
    assert check.rule == "audit_below_claim"
    assert len(more) == (0 if settings.get("space") == "input" else 8)
    return row, check


def clipping_of(subject: Subject, **settings: Any) -> Check:
    """What the audit says of clipping."""
    check = concluded(Audit(**settings), subject)[2]
    assert isinstance(check, Check)
    assert check.rule == "clipped_record_by_record"
    return check


class WithoutNoise(PrivateUpdate):
    def finish(self, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        return [g / (self.planned.sample_rate * self._sampling.units) for g in total]


class NoiseDividedTwice(PrivateUpdate):
    def finish(self, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        generator, expected = np.random.default_rng(step), self.planned.sample_rate * self._sampling.units
        scale = self.planned.noise_multiplier * self._settings.max_grad_norm / expected
        return [(g + scale * _normal(generator, g)) / expected for g in total]


class QuarterOfTheNoise(PrivateUpdate):
    def finish(self, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
        generator, expected = np.random.default_rng(step), self.planned.sample_rate * self._sampling.units
        scale = self.planned.noise_multiplier * self._settings.max_grad_norm / 4
        return [(g + scale * _normal(generator, g)) / expected for g in total]


class WithoutClipping(PrivateUpdate):
    def gradients(self, losses: Tensor) -> list[Tensor]:
        return self._gradients.clipped_sum(losses, math.inf)


class ClippedBatch(PrivateUpdate):
    """The mean gradient of the batch is clipped, as ``clip_grad_norm_`` before the step does."""

    def gradients(self, losses: Tensor) -> list[Tensor]:
        mean = [g / len(losses) for g in self._gradients.clipped_sum(losses, math.inf)]
        length = torch.cat([g.flatten() for g in mean]).norm()
        return [len(losses) * g * min(1.0, self._settings.max_grad_norm / float(length)) for g in mean]


class ClippedSum(PrivateUpdate):
    """The sum over the batch is clipped, so that all its records together move no more than one may."""

    def gradients(self, losses: Tensor) -> list[Tensor]:
        total = self._gradients.clipped_sum(losses, math.inf)
        length = torch.cat([g.flatten() for g in total]).norm()
        return [g * min(1.0, self._settings.max_grad_norm / float(length)) for g in total]


class SampledTenTimesTooOften(PrivateUpdate):
    """The accountant is told a tenth of the rate at which records are drawn."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        told = planned(
            self._settings, units=10 * self._sampling.units, batch_size=settings["batch_size"], steps=settings["steps"]
        )
        self.planned = replace(self.planned, noise_multiplier=told.noise_multiplier)

    def mechanism(self, steps: int) -> Any:
        return replace(super().mechanism(steps), sample_rate=self.planned.sample_rate / 10)


@pytest.mark.parametrize(
    "bug", [WithoutNoise, NoiseDividedTwice, QuarterOfTheNoise, WithoutClipping, ClippedBatch, SampledTenTimesTooOften]
)
def test_a_broken_trainer_is_caught(
    private: Callable[..., Subject], bug: type[PrivateUpdate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.training.build.PrivateUpdate", bug)
    row, check = audit(private(privacy={"epsilon": 1.0}))
    assert row.conditions["claimed_epsilon"] <= 1.0
    assert row.value > row.conditions["claimed_epsilon"]
    assert (check.verdict, check.figure, check.concerns) == ("fail", row.value, row.name)
    assert "a bug in the trainer, or bad luck with probability at most 0.05" in check.message
    assert check.judges(row)


@pytest.mark.parametrize("bug", [ClippedBatch, ClippedSum, WithoutClipping])
def test_what_is_not_clipped_record_by_record_is_caught_even_where_epsilon_does_not_show_it(
    private: Callable[..., Subject], bug: type[PrivateUpdate], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clipping_of(private()).figure == pytest.approx(1.0, abs=0.3)
    monkeypatch.setattr("assay.training.build.PrivateUpdate", bug)
    assert clipping_of(private()).verdict == "fail"


def test_the_sound_trainer_is_never_accused(private: Callable[..., Subject]) -> None:
    bounds = []
    for seed in range(60):
        subject = private(given={"seed": seed})
        row, *checks = concluded(Audit(), subject)
        assert isinstance(row, Measurement)
        assert {check.verdict for check in checks if isinstance(check, Check)} == {"pass"}
        assert row.conditions["claimed_epsilon"] == pytest.approx(CLAIM, rel=0.01)
        bounds.append(row.value)
    assert max(bounds) < CLAIM
    assert np.mean(bounds) > 1.0, "it has the power to see what there is"
    assert len(set(bounds)) > 5


def test_the_audited_run_is_that_of_the_recipe(private: Callable[..., Subject]) -> None:
    row, _ = audit(private(training=FULL.model_copy(update={"batch_size": 50})), canaries=400)
    about = row.conditions
    assert (about["sample_rate"], about["steps"]) == (pytest.approx(0.25, rel=0.01), 4 * STEPS)
    assert (about["records"], about["canaries"], row.n) == (RECORDS, 400, 400)
    assert 150 < about["included"] < 250
    assert about["delta"] == 1e-5
    assert 0.3 < row.value < CLAIM
    assert "never the model that is evaluated" in about["run"]


@pytest.mark.parametrize("clipping", ["flat", "per_layer", "automatic"])
def test_every_way_of_clipping_is_audited(private: Callable[..., Subject], clipping: str) -> None:
    subject = private(privacy={"epsilon": CLAIM, "clipping": clipping})
    row, check = audit(subject)
    assert (check.verdict, clipping_of(subject).verdict) == ("pass", "pass")
    assert clipping_of(subject).figure == pytest.approx(1.0, abs=0.3)
    assert 0.8 < row.value < CLAIM


@pytest.mark.parametrize("clipping", ["per_layer", "automatic"])
def test_a_trainer_without_noise_is_caught_whatever_clips(
    private: Callable[..., Subject], clipping: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.training.build.PrivateUpdate", WithoutNoise)
    assert audit(private(privacy={"epsilon": CLAIM, "clipping": clipping}))[1].verdict == "fail"


PGD = {"name": "pgd", "epsilon": 0.3, "steps": 3}


@pytest.mark.parametrize(
    "change",
    [
        {"objective": PGD},
        {"objective": {**PGD, "norm": "l2"}},
        {"objective": {"name": "trades", "epsilon": 0.3, "steps": 2}},
        {"objective": {"name": "gaussian_noise", "sigma": 2.0}},
        {"training": FULL.model_copy(update={"records_at_once": 70, "averaging": 0.9})},
    ],
    ids=["pgd", "pgd-l2", "trades", "gaussian_noise", "pieces"],
)
def test_the_objective_changes_no_canary_and_no_epsilon(
    private: Callable[..., Subject], change: dict[str, Any]
) -> None:
    plain, (row, check) = audit(private())[0], audit(private(**change))
    assert check.verdict == "pass"
    assert row.conditions == plain.conditions
    assert row.value == plain.value


def test_an_adversarial_trainer_without_noise_is_caught(
    private: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.training.build.PrivateUpdate", WithoutNoise)
    assert audit(private(objective=PGD))[1].verdict == "fail"


def test_augmentation_changes_no_canary(private: Callable[..., Subject]) -> None:
    settings = {"shape": (1, 8, 8), "training": FULL.model_copy(update={"epochs": 4})}
    plain, _ = audit(private(**settings), canaries=300)
    copied = {"epsilon": CLAIM, "augmentations": 2}
    row, check = audit(private(**settings, data=FLIP_AND_CROP, privacy=copied), canaries=300)
    assert check.verdict == "pass"
    assert row.value == plain.value > 0.3


def test_a_teacher_is_audited_with_its_student(private: Callable[..., Subject]) -> None:
    row, check = audit(private(objective="distillation"))
    assert check.verdict == "pass"
    assert row.conditions["steps"] == 2 * STEPS
    # Either stage alone has half of the budget, and would show less.
    assert row.value > audit(private(privacy={"epsilon": CLAIM, "trainings": 2}))[0].value


def test_a_federated_recipe_is_audited_in_one_place(private: Callable[..., Subject]) -> None:
    row, check = audit(private(federation=Federation(clients=2, rounds=3, local_epochs=2)))
    assert check.verdict == "pass"
    assert row.conditions["steps"] == 6
    assert any("not at its clients" in warning for warning in row.warnings)


def test_texts_are_audited_where_nothing_changes_their_words(private: Callable[..., Subject]) -> None:
    subject, generator = private(), np.random.default_rng(2)
    tokens = Tokens(words=tuple("abcdef"), vectors=generator.normal(size=(6, 3)).astype(np.float32), trainable=True)
    x = generator.integers(0, 6, (RECORDS + 60, 7)).astype(np.int32)
    dataset = replace(subject.dataset, x=x, modality="text", tokens=tokens, low=np.array(-9.0), high=np.array(9.0))
    network = TextCNN(widths=(2,), channels=4, dropout=0.0)
    text = replace(subject, dataset=dataset, network=lambda: network.build_for(dataset.form, seed=0))
    row, check = audit(text)
    assert check.verdict == "pass"
    assert row.value > 0.8
    assert text.recipe is not None
    moved = replace(text, recipe=text.recipe.model_copy(update={"objective": Recipe(objective=PGD).objective}))
    (row,) = concluded(Audit(), moved)
    assert isinstance(row, Measurement)
    assert row.status == "not_applicable"
    assert "pgd changes words" in row.warnings[0]


def test_what_no_audit_of_this_size_could_find_is_said(private: Callable[..., Subject]) -> None:
    row, check = audit(private(privacy={"epsilon": 8.0}), canaries=100)
    assert row.conditions["most"] < 8.0
    assert (check.verdict, check.message[:13]) == ("warn", "inconclusive:")
    assert "no bug could show" in check.message
    assert audit(private())[1].verdict == "pass"


@pytest.mark.parametrize("canaries", [10, 30, 4000])
def test_a_check_of_clipping_that_could_not_see_a_clipped_batch_is_inconclusive(
    private: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch, canaries: int
) -> None:
    """Whatever is told apart of a sound and a broken trainer: where it is nothing, neither passes."""
    subject = private(privacy={"epsilon": 1.0})
    sound = clipping_of(subject, canaries=canaries)
    monkeypatch.setattr("assay.training.build.PrivateUpdate", ClippedSum)
    broken = clipping_of(subject, canaries=canaries)
    if canaries < 1000:
        assert (sound.verdict, broken.verdict) == ("warn", "warn")
        assert sound.message.startswith("inconclusive: ")
        assert "canaries" in sound.message
    else:
        assert (sound.verdict, broken.verdict) == ("pass", "fail")


def test_where_all_canaries_are_in_the_check_of_clipping_is_inconclusive(
    private: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.evaluations.canary_runs._coins", lambda subject, canaries: np.arange(canaries) > 0)
    check = clipping_of(private(), canaries=12)
    assert (check.verdict, check.message[:13]) == ("warn", "inconclusive:")


def test_more_audits_give_a_weaker_bound(private: Callable[..., Subject]) -> None:
    alone, many = audit(private())[0], audit(private(), audits=20)[0]
    assert many.value < alone.value
    assert (alone.conditions["audits"], many.conditions["audits"]) == (1, 20)


def by_heart(subject: Subject) -> Subject:
    """Wide and long enough to learn wrong labels."""
    training = Training(epochs=30, batch_size=64, learning_rate=0.01)
    wide = MLP(hidden=(128,))
    return replace(subject, recipe=Recipe(training=training), network=lambda: wide.build((60,), 2, seed=0))


def test_in_input_space_a_plain_training_leaks_and_a_private_one_hides(private: Callable[..., Subject]) -> None:
    hidden = private(shape=(60,))
    dataset = hidden.dataset
    more = np.random.default_rng(3).permutation(len(dataset))
    split = replace(hidden.split, train=more[:60], test=more[60:])
    leaking = by_heart(replace(hidden, split=split))
    row, check = audit(leaking, space="input")
    assert row.value > 0.7
    assert (check.verdict, row.conditions["claimed_epsilon"]) == ("pass", None)
    assert row.conditions["canaries"] == RECORDS
    assert any("200 records were held out" in warning for warning in row.warnings)
    row, check = audit(replace(hidden, split=split), space="input")
    assert check.verdict != "fail"
    assert row.value < 0.7


def test_in_input_space_a_trainer_without_privacy_that_claims_it_is_caught(
    private: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Neither(WithoutClipping, WithoutNoise):
        """Plain training that says it is private."""

    monkeypatch.setattr("assay.training.build.PrivateUpdate", Neither)
    hidden = private(shape=(60,))
    more = np.random.default_rng(3).permutation(len(hidden.dataset))
    leaking = by_heart(replace(hidden, split=replace(hidden.split, train=more[:60], test=more[60:])))
    assert leaking.recipe is not None
    claiming = leaking.recipe.model_copy(update={"privacy": Privacy(epsilon=0.5)})
    assert audit(replace(leaking, recipe=claiming), space="input")[1].verdict == "fail"


@pytest.mark.parametrize(
    ("change", "settings", "why"),
    [
        ({"recipe": None}, {}, "nothing can be trained"),
        ({"network": None}, {}, "nothing can be trained"),
        ({"recipe": Recipe()}, {}, "not private"),
        ({"recipe": Recipe(data=({"name": "label_flips", "share": 0.1},))}, {"space": "input"}, "drop the canaries"),
        ({"recipe": Recipe(training=FULL, privacy=Privacy(epsilon=1, delta=1 / 300))}, {}, "below 1/n"),
    ],
)
def test_what_cannot_be_audited_says_why(
    private: Callable[..., Subject], change: dict[str, Any], settings: dict[str, Any], why: str
) -> None:
    (row,) = concluded(Audit(**settings), replace(private(), **change))
    assert isinstance(row, Measurement)
    assert (row.name, row.status) == ("epsilon_audited", "not_applicable")
    assert why in row.warnings[0]


def test_how_many_audits_there_are_is_a_matter_of_reading(private: Callable[..., Subject]) -> None:
    """One training answers for any number of audits, and the verdicts are those of an audit that knew it."""
    subject = private()
    stored = [Check.of(one.measurement()) if isinstance(one, Check) else one for one in Audit().measure(subject)]
    read = {count: list(Audit(audits=count).read(stored)) for count in (1, 4, 20)}
    assert [row.conditions["audits"] for rows in read.values() for row in rows if isinstance(row, Measurement)] == [
        1,
        5,
        20,
    ], "of four, as of the next number that was concluded for"
    assert len({len(rows) for rows in read.values()}) == 1
    bounds = [rows[0].value for rows in read.values()]
    assert bounds[0] > bounds[1] > bounds[2]
    assert not any("audits" in one.conditions for one in read[20] if isinstance(one, Check))


def test_a_study_asks_for_an_audit(tmp_path: Any) -> None:
    generator = np.random.default_rng(0)
    y = np.arange(80) % 2
    np.savez(tmp_path / "made.npz", x=(generator.normal(size=(80, 3)) + y[:, None]).clip(-4, 5), y=y)
    cohort = {
        "dataset": {"name": "arrays", "path": str(tmp_path / "made.npz"), "low": -4, "high": 5},
        "model": {"name": "mlp", "hidden": []},
        "evaluations": ["accuracy", {"name": "audit", "canaries": 600}],
        "recipes": {"dp": {"training": {"epochs": 3, "batch_size": 100}, "privacy": {"epsilon": 4}}},
    }
    study = build_study({"name": "made", "split": {"folds": 2}, "cohorts": {"made": cohort}}, "made.yaml")
    datasets = load_datasets(study)
    record = run_trial(plan(study, datasets)[0], LocalExecutor(), datasets["made"])
    assert not record.error
    found = {row.name: row for row in record.measurements}
    assert found["epsilon_audited"].status == "measured"
    assert found["check.audit_below_claim"].verdict == "pass"
    assert found["epsilon_audited"].conditions["audits"] == 2, "one of each fold"
