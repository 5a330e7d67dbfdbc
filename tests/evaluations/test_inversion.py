"""A server identifies records where it must, nobody by chance, and says so where it cannot ask."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from assay.data.base import Dataset
from assay.data.images.digits import Digits
from assay.data.splits import Split
from assay.errors import SpecError
from assay.evaluations import inversion_scores
from assay.evaluations.inversion import EFFORTS, Inversion
from assay.evaluations.inversion_cases import Victims, cases_of, parts_of, recipe_of_client
from assay.evaluations.inversion_pictures import decoded, encoded, may_be_shown
from assay.evaluations.inversion_scores import Lineup, lineup, pool_of, score
from assay.evaluations.subject import Subject
from assay.federated.inversion.matching import GradientMatching
from assay.federated.inversion.observed import identity
from assay.metrics import undeclared
from assay.models.cnn import CNN
from assay.models.mlp import MLP
from assay.recipes import Federation, Privacy, Recipe, Training
from assay.registry import build
from assay.results import Check, Finding, Measurement

One = Callable[..., Measurement]
SGD = Training(optimizer="sgd", learning_rate=0.05, batch_size=16)
FEDERATED = Recipe(federation=Federation(clients=4, rounds=2, local_epochs=1), training=SGD)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return Digits().load()


def subject_of(data: Dataset, architecture: Any, recipe: Recipe | None, **about: Any) -> Subject:
    order = np.random.default_rng(0).permutation(len(data))[:900]
    split = Split(train=np.sort(order[:400]), validation=order[:0], calibration=order[:0], test=np.sort(order[400:]))

    def network() -> nn.Module:
        return architecture.build_for(data.form, seed=0)

    settings = {"model": network(), "network": network, "log": None, "seed": 0, **about}
    return Subject(dataset=data, split=split, recipe=recipe, architecture=architecture, **settings)


@pytest.fixture(scope="module")
def of_mlp(digits: Dataset) -> Subject:
    return subject_of(digits, MLP(hidden=(16,)), FEDERATED)


def rows(found: Any) -> list[Finding]:
    return list(found)


@pytest.fixture(scope="module")
def exact(of_mlp: Subject) -> list[Finding]:
    return list(Inversion(victims=30, epsilons=(1.0,)).measure(of_mlp))


def test_one_record_of_a_fully_connected_network_is_identified_every_time(exact: list[Finding], one: One) -> None:
    for weights in ("fresh", "trained"):
        row = one(rows(exact), "inversion_identified", weights=weights, update="step", privacy="none")
        assert (row.value, row.n, row.conditions["candidates"]) == (1, 30, 50)
        error = one(rows(exact), "inversion_error", weights=weights, update="step", privacy="none")
        assert error.value < 1e-5
        assert one(rows(exact), "inversion_labels", weights=weights, privacy="none").value == 1
    (check,) = [finding for finding in exact if isinstance(finding, Check)]
    assert (check.rule, check.verdict, check.figure) == ("inversion_works", "pass", 1)


def test_at_a_small_epsilon_nobody_is_identified_beyond_chance(exact: list[Finding], one: One) -> None:
    for name in ("inversion_identified", "inversion_by_candidates"):
        row = one(rows(exact), name, weights="fresh", privacy="hypothetical")
        assert row.conditions["privacy_epsilon"] == 1
        assert row.low <= row.conditions["chance"] == pytest.approx(1 / 50)
        assert row.high < 0.3


def test_the_mean_record_is_no_better_than_chance(exact: list[Finding], one: One) -> None:
    row = one(rows(exact), "inversion_mean_record", weights="fresh", update="step", privacy="none")
    assert row.low <= row.conditions["chance"]
    assert row.high < 0.3


def test_a_private_recipe_is_measured_as_it_is_and_without_privacy(of_mlp: Subject, one: One) -> None:
    recipe = Recipe(**{**dict(FEDERATED), "privacy": Privacy(epsilon=1, delta=1e-3)})
    found = list(Inversion(victims=20, rounds=False, weights=("fresh",)).measure(replace(of_mlp, recipe=recipe)))
    private = one(found, "inversion_identified", privacy="recipe", actual=True)
    assert private.low <= private.conditions["chance"]
    assert one(found, "inversion_identified", privacy="none", actual=False).value == 1


def test_a_client_with_one_record_sends_it_in_its_round(of_mlp: Subject, one: One) -> None:
    lonely = FEDERATED.model_copy(update={"federation": Federation(clients=400, local_epochs=3)})
    found = list(Inversion(victims=10, weights=("fresh",), epsilons=()).measure(replace(of_mlp, recipe=lonely)))
    row = one(found, "inversion_identified", update="round")
    assert (row.value, row.conditions["records"], row.conditions["steps"]) == (1, 1, 3)


def test_a_convolutional_network_gives_its_records_away(digits: Dataset, one: One) -> None:
    subject = subject_of(digits, CNN(channels=(8, 16), hidden=32), FEDERATED)
    asked = Inversion(
        victims=5, weights=("fresh",), epsilons=(), rounds=False, matching=GradientMatching(iterations=50)
    )
    found = list(asked.measure(subject))
    for labels in ("known", "inferred"):
        row = one(found, "inversion_identified", labels=labels)
        assert row.value >= 0.8
        assert row.low > row.conditions["chance"]
        assert row.conditions["attack"] == "gradient matching"
    pictures = one(found, "inversion_pictures")
    originals = decoded(pictures.conditions["originals"])
    assert originals.shape == (5, 1, 8, 8)
    assert pictures.value == 5


def test_an_attack_that_is_too_weak_is_named(of_mlp: Subject, digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"victims": 10, "weights": ("fresh",), "epsilons": (), "rounds": False}
    monkeypatch.setattr(
        "assay.evaluations.inversion_attack.invert_first_layer",
        lambda layer, update, shape, bounds: torch.full((1, *shape), 0.5),
    )
    *_, check = Inversion(**asked).measure(of_mlp)
    assert isinstance(check, Check)
    assert (check.verdict, check.concerns) == ("fail", "inversion_identified")
    weak = Inversion(**asked, labels=("known",), matching=GradientMatching(iterations=1, learning_rate=1e-9))
    *_, check = weak.measure(subject_of(digits, CNN(channels=(4,), hidden=8), FEDERATED))
    assert isinstance(check, Check)
    assert check.verdict == "warn"
    assert "say nothing" in check.message


def test_a_reconstruction_that_fails_is_flagged_where_gradients_identify(
    of_mlp: Subject, one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "assay.evaluations.inversion_attack.invert_first_layer",
        lambda layer, update, shape, bounds: torch.full((1, *shape), 0.5),
    )
    found = list(Inversion(victims=10, weights=("fresh",), epsilons=(), rounds=False).measure(of_mlp))
    row = one(found, "inversion_identified")
    assert [flag.rule for flag in row.flags] == ["identified_without_reconstruction"]


def test_what_compression_leaves_is_what_the_server_sees(
    of_mlp: Subject, one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "assay.evaluations.inversion.decoders_of",
        lambda recipe, network, seed: {"none": lambda sent: sent, "nothing": torch.zeros_like},
    )
    found = list(Inversion(victims=10, weights=("fresh",), epsilons=(), rounds=False).measure(of_mlp))
    assert one(found, "inversion_identified", compression="none").value == 1
    assert one(found, "inversion_identified", compression="nothing").value < 0.5


def test_the_transforms_of_a_recipe_are_those_of_its_updates(of_mlp: Subject, one: One) -> None:
    federation = {"clients": 4, "transforms": [{"name": "quantise", "bits": 8}]}
    recipe = Recipe.model_validate({"federation": federation, "training": SGD.model_dump()})
    asked = Inversion(victims=10, weights=("fresh",), epsilons=(), rounds=False)
    found = list(asked.measure(replace(of_mlp, recipe=recipe)))
    plain, small = (one(found, "inversion_error", compression=how) for how in ("none", "quantise"))
    assert (plain.conditions["actual"], small.conditions["actual"]) == (False, True)
    assert plain.value < 1e-5 < small.value < 0.2


def test_victims_and_candidates_are_of_one_class_and_no_candidate_is_behind_the_update(of_mlp: Subject) -> None:
    victims = Victims.of(of_mlp, victims=20, clients=2)
    parts = parts_of(of_mlp)
    assert sum(map(len, victims.chosen.values())) == 20
    for number, chosen in victims.chosen.items():
        assert set(chosen) <= set(parts[number - 1])
        for victim in chosen.tolist():
            attacked: Any = type("Attacked", (), {"rows": victims.parts[number]})
            line = lineup(of_mlp, pool_of(of_mlp), attacked, victim, 12)
            assert len(line.others) == 11
            assert set(of_mlp.dataset.y[line.others]) == {of_mlp.dataset.y[victim]}
            assert not set(line.others) & set(victims.parts[number])


def test_an_attacker_who_guesses_is_right_as_often_as_chance(of_mlp: Subject) -> None:
    generator, pool = torch.Generator().manual_seed(0), pool_of(of_mlp)
    victims = np.random.default_rng(0).permutation(pool)[:600]
    lines = [
        lineup(of_mlp, pool, type("Attacked", (), {"rows": victims[:0]}), int(victim), 10)  # type: ignore[arg-type]
        for victim in victims
    ]
    lines = [replace(line, others=line.others[line.others != line.victim]) for line in lines]
    guesses = [torch.rand((3, 1, 8, 8), generator=generator) for _ in lines]
    hits = score(of_mlp, guesses, lines).identified
    assert abs(hits.mean() - 0.1) < 4 * (0.09 / 600) ** 0.5


def test_a_tie_identifies_nobody(of_mlp: Subject) -> None:
    line = Lineup(victim=0, others=np.array([0]))
    assert not score(of_mlp, [torch.from_numpy(of_mlp.dataset.x[:1])], [line]).identified[0]


def test_tables_are_compared_in_standard_deviations(digits: Dataset) -> None:
    table = build("dataset", "wdbc").load()  # type: ignore[attr-defined]
    subject = subject_of(table, MLP(), FEDERATED)
    subject = replace(subject, split=replace(subject.split, train=np.arange(300), test=np.arange(300, 569)))
    scale = inversion_scores.scale_of(subject)
    assert np.allclose(scale, table.x[:300].astype(float).std(0))
    moved = torch.from_numpy(table.x[:1].astype(float) + scale.numpy())
    assert score(subject, [moved], [Lineup(victim=0, others=np.array([1]))]).error[0] == pytest.approx(1, rel=1e-6)
    assert np.allclose(inversion_scores.scale_of(subject_of(digits, MLP(), FEDERATED)), 1)


def test_the_first_case_is_the_one_in_which_the_attack_must_work() -> None:
    cases = cases_of(
        FEDERATED, {"none": identity}, weights=("fresh", "trained"), batches=(1, 4), rounds=True, epsilons=(1.0,)
    )
    first = cases[0]
    assert (first.weights, first.update, first.batch, first.privacy, first.actual) == ("fresh", "step", 1, "none", True)
    assert [(c.weights, c.update, c.batch, c.privacy) for c in cases if c.update == "round"] == [
        ("fresh", "round", 0, "none"),
        ("trained", "round", 0, "none"),
    ]
    assert len(cases) == 2 * 2 * 2 + 2


def test_noise_of_the_operating_system_is_replaced_by_noise_of_a_seed() -> None:
    recipe = Recipe(privacy=Privacy(epsilon=1, noise="entropy"), data=())
    assert recipe_of_client(recipe).privacy == Privacy(epsilon=1, noise="seeded")


@pytest.mark.parametrize("settings", [{"weights": ["trained"]}, {"batch_sizes": [2, 1]}, {"batch_sizes": [1, 1]}])
def test_the_case_in_which_it_must_work_cannot_be_left_out(settings: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="must begin with"):
        build("evaluation", {"name": "inversion", **settings})


class Normed(nn.Module):
    """A network with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"recipe": None}, "not_trained_here"),
        ({"network": None}, "not_trained_here"),
        ({"recipe": Recipe()}, "not_federated"),
        ({"network": Normed}, "no_method"),
    ],
)
def test_what_cannot_be_asked_says_why(of_mlp: Subject, about: dict[str, Any], reason: str) -> None:
    found = Inversion().measure(replace(of_mlp, **about))
    assert {(row.status, row.reason) for row in found if isinstance(row, Measurement)} == {("not_applicable", reason)}
    assert [row.name for row in found if isinstance(row, Measurement)] == [m.name for m in Inversion.metrics]


def test_a_recipe_without_federation_is_one_client_if_that_is_asked_for(of_mlp: Subject, one: One) -> None:
    subject = replace(of_mlp, recipe=Recipe(training=SGD))
    asked = Inversion(victims=8, weights=("fresh",), epsilons=(), as_if_federated=True)
    found = list(asked.measure(subject))
    assert one(found, "inversion_identified", update="step").value == 1
    assert one(found, "inversion_identified", update="round").conditions["records"] == 400


def test_a_privacy_that_the_records_do_not_allow_is_not_applicable(of_mlp: Subject, one: One) -> None:
    recipe = Recipe(**{**dict(FEDERATED), "privacy": Privacy(epsilon=1, delta=0.5)})
    found = list(Inversion(victims=4, weights=("fresh",), rounds=False).measure(replace(of_mlp, recipe=recipe)))
    row = one(found, "inversion_identified", privacy="recipe")
    assert (row.status, row.reason) == ("not_applicable", "no_method")
    assert "privacy.delta" in row.warnings[0]


def test_pictures_are_kept_only_where_everybody_may_publish_them(digits: Dataset, of_mlp: Subject) -> None:
    assert may_be_shown(digits)
    for other in (replace(digits, licence="unknown"), replace(digits, licence="research use")):
        assert not may_be_shown(other)
        found = Inversion(victims=2, weights=("fresh",), rounds=False, epsilons=()).measure(
            replace(of_mlp, dataset=other)
        )
        assert not [row for row in found if isinstance(row, Measurement) and row.name == "inversion_pictures"]
    assert not may_be_shown(build("dataset", "wdbc").load())  # type: ignore[attr-defined]


def test_pictures_come_back_as_they_were(digits: Dataset) -> None:
    kept = encoded(digits, list(digits.x[:3]))
    assert np.array_equal(decoded(kept), np.rint(255 * digits.x[:3]).astype(np.uint8))


def test_every_figure_is_declared_and_the_presets_differ(exact: list[Finding]) -> None:
    assert undeclared(Inversion.metrics, exact) == []
    assert EFFORTS["thorough"].iterations > EFFORTS["quick"].iterations
