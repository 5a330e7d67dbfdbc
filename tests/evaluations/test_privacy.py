"""The claimed ε never stands without its evidence, and not at all where it does not hold."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from assay.evaluations import privacy
from assay.evaluations.privacy import PrivacySpent
from assay.evaluations.subject import Subject
from assay.models.base import Architecture
from assay.models.resnet import ResNet18
from assay.privacy.accounting import PRV_ERROR, Mechanism, Spent, spent
from assay.recipes import Federation, Privacy, Recipe
from assay.results import NOT_RELEASABLE, Check, Measurement

Make = Callable[..., Subject]
One = Callable[..., Measurement]

NAMES = {"epsilon": "rdp", "epsilon_prv": "prv", "epsilon_pld": "pld"}
MECHANISM = Mechanism(noise_multiplier=1.5, sample_rate=0.1, steps=50, delta=1e-5)


def claims(subject: Subject) -> list[Measurement]:
    """What it measures, without its check."""
    return [found for found in PrivacySpent().measure(subject) if isinstance(found, Measurement)]


@pytest.fixture
def subject(make: Make, log: Callable[..., Any]) -> Callable[..., Subject]:
    """Two hundred records trained on privately."""

    def build(
        *mechanisms: Mechanism,
        noise: str = "seeded",
        clients: int = 0,
        about: dict[str, Any] | None = None,
        architecture: Architecture | None = None,
    ) -> Subject:
        spenders = [str(i) for i in range(1, clients + 1)] if clients else ["central"]
        recipe = Recipe(
            data=["flip"],
            privacy=Privacy(epsilon=8, noise=noise, max_grad_norm=0.7, clipping="per_layer", augmentations=4),
            federation=Federation(clients=clients) if clients else None,
        )
        told = {name: asdict(mechanism) for name, mechanism in zip(spenders, mechanisms or [MECHANISM], strict=True)}
        x, y = np.arange(250.0)[:, None], np.arange(250) % 2
        return make(
            nn.Identity(),
            x,
            y,
            train=np.arange(200),
            recipe=recipe,
            log=log(mechanisms=told),
            about=about or {},
            architecture=architecture,
        )

    return build


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accountants that agree at once; ε grows with the steps."""
    monkeypatch.setattr(privacy, "spent", lambda m: Spent(rdp=m.steps / 10, prv=m.steps / 11, pld=m.steps / 11))
    monkeypatch.setattr(privacy, "rdp_epsilon", lambda m: m.steps / 10)


def test_three_accountants_count_what_was_spent(subject: Callable[..., Subject], one: One) -> None:
    found, figures = claims(subject()), spent(MECHANISM)
    assert [m.name for m in found] == list(NAMES)
    for name, accountant in NAMES.items():
        assert one(found, name).value == getattr(figures, accountant)
        assert one(found, name).conditions["accountant"] == accountant
        assert one(found, name).unit == "epsilon"
    assert figures.pld <= figures.rdp


@pytest.mark.usefixtures("quick")
def test_the_claim_stands_with_everything_it_depends_on(subject: Callable[..., Subject]) -> None:
    for measurement in claims(subject()):
        expected = {
            "delta": 1e-5,
            "target_epsilon": 8.0,
            "neighbours": "add or remove one record",
            "unit": "record",
            "sampling": "Poisson",
            "sample_rate": 0.1,
            "noise_multiplier": 1.5,
            "max_grad_norm": 0.7,
            "clipping": "per_layer",
            "augmentations": 4,
            "steps": 50,
            "prv_error": PRV_ERROR,
            "spent_by": "central",
            "records": 200,
            "noise": "seeded",
            "preprocessing": "none",
            "first_weights": "drawn from the seed",
        }
        assert expected.items() <= dict(measurement.conditions).items()
        assert "not a cryptographic" in measurement.conditions["rng"]
        assert "training split" in measurement.conditions["covers"]
        assert measurement.n == 200


@pytest.mark.usefixtures("quick")
def test_seeded_noise_warns_and_entropy_does_not(subject: Callable[..., Subject]) -> None:
    for measurement in claims(subject(noise="seeded")):
        assert [flag.rule for flag in measurement.flags] == [NOT_RELEASABLE]
    assert all(m.warnings == () and m.flags == () for m in claims(subject(noise="entropy")))


def test_a_recipe_that_is_not_private_says_so(make: Make, log: Callable[..., Any]) -> None:
    found = claims(make(nn.Identity(), [[0], [1]], [0, 1], recipe=Recipe(), log=log()))
    assert [m.name for m in found] == list(NAMES)
    assert all(m.status == "not_applicable" and "the recipe is not private" in m.warnings[0] for m in found)


def test_a_model_trained_elsewhere_makes_no_claim(make: Make) -> None:
    found = claims(make(nn.Identity(), [[0], [1]], [0, 1]))
    assert [m.name for m in found] == list(NAMES)
    assert all(m.status == "not_applicable" and "Assay did not train this model" in m.warnings[0] for m in found)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("delta", "status"), [(1 / 201, "measured"), (1 / 200, "failed"), (0.5, "failed")])
def test_delta_must_be_below_one_in_the_number_of_records(
    subject: Callable[..., Subject], delta: float, status: str
) -> None:
    told = Mechanism(noise_multiplier=1.5, sample_rate=0.1, steps=50, delta=delta)
    found = claims(subject(told))
    assert {m.status for m in found} == {status}
    assert all("is not below 1/n = 0.005" in m.warnings[0] for m in found if status == "failed")


@pytest.mark.usefixtures("quick")
def test_preprocessing_that_nobody_paid_for_breaks_the_claim(subject: Callable[..., Subject]) -> None:
    for measurement in claims(subject(about={"unpaid_preprocessing": True})):
        assert measurement.status == "failed"
        assert np.isnan(measurement.value)
        assert "public_preprocessing: true" in measurement.warnings[0]
        assert measurement.conditions["noise_multiplier"] == 1.5


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("public", "status"), [(False, "failed"), (True, "measured")])
def test_first_weights_of_a_file_break_the_claim_unless_they_are_said_to_be_public(
    subject: Callable[..., Subject], tmp_path: Path, public: bool, status: str
) -> None:
    file = tmp_path / "pretrained.safetensors"
    file.write_bytes(b"weights")
    for m in claims(subject(noise="entropy", architecture=ResNet18(weights=str(file), public_weights=public))):
        assert m.status == status
        named = f"pretrained.safetensors (SHA-256 {hashlib.sha256(b'weights').hexdigest()})"
        assert named in m.conditions["first_weights"]
        if not public:
            assert named in m.warnings[0] and "public_weights: true" in m.warnings[0]


@pytest.mark.usefixtures("quick")
def test_a_network_drawn_from_the_seed_needs_no_word(subject: Callable[..., Subject]) -> None:
    for m in claims(subject(noise="entropy", architecture=ResNet18())):
        assert (m.status, m.conditions["first_weights"]) == ("measured", "drawn from the seed")


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (Spent(rdp=1.0, prv=1.1, pld=1.1), "above RDP's upper bound"),
        (Spent(rdp=2.0, prv=1.5, pld=1.0), "further apart than PRV's stated error"),
        (Spent(rdp=2.0, prv=0.9, pld=1.0), "further apart than PRV's stated error"),
    ],
)
def test_accountants_that_contradict_each_other_break_the_claim(
    subject: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch, figures: Spent, said: str
) -> None:
    monkeypatch.setattr(privacy, "spent", lambda _: figures)
    found = claims(subject(noise="entropy"))
    assert {m.status for m in found} == {"failed"}
    assert all(said in m.warnings[0] for m in found)


@pytest.mark.usefixtures("quick")
def test_every_reason_is_given(subject: Callable[..., Subject]) -> None:
    told = Mechanism(noise_multiplier=1.5, sample_rate=0.1, steps=50, delta=0.1)
    (first, *_) = claims(subject(told, about={"unpaid_preprocessing": True}))
    assert len(first.warnings) == 2


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("records", "said"), [(1, False), (3, True)])
def test_patients_of_several_records_are_told_that_they_are_less_protected(
    subject: Callable[..., Subject], records: int, said: bool
) -> None:
    asked = subject(noise="entropy")
    asked = replace(asked, dataset=replace(asked.dataset, groups=np.arange(250) // records))
    for measurement in claims(asked):
        assert any("a patient with 3 records" in warning for warning in measurement.warnings) == said


@pytest.mark.usefixtures("quick")
def test_of_several_clients_the_one_that_spent_most_counts(subject: Callable[..., Subject]) -> None:
    told = ((30, 0.1), (70, 0.2), (50, 0.3), (10, 0.4))
    mechanisms = [Mechanism(noise_multiplier=1.5, sample_rate=q, steps=n, delta=1e-5) for n, q in told]
    (claimed, *_) = claims(subject(*mechanisms, clients=4))
    assert claimed.value == 7.0
    assert claimed.conditions["spent_by"] == "2"
    assert (claimed.conditions["steps"], claimed.conditions["sample_rate"]) == (70, 0.2)
    assert (claimed.conditions["records"], claimed.n) == (200, 200)


def test_clients_are_ranked_by_one_accountant_and_only_the_worst_is_counted_by_all(
    subject: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Mechanism] = []

    def count(mechanism: Mechanism) -> Spent:
        counted.append(mechanism)
        return Spent(rdp=1.0, prv=0.9, pld=0.9)

    monkeypatch.setattr(privacy, "spent", count)
    mechanisms = [replace(MECHANISM, steps=steps) for steps in (30, 70, 50)]
    claims(subject(*mechanisms, clients=3))
    assert counted == [mechanisms[1]]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("delta", "status"), [(1 / 201, "measured"), (1 / 200, "failed"), (1 / 51, "failed")])
def test_delta_is_judged_by_the_records_of_all_clients(
    subject: Callable[..., Subject], delta: float, status: str
) -> None:
    found = claims(subject(*[replace(MECHANISM, delta=delta)] * 4, clients=4))
    assert {m.status for m in found} == {status}


@pytest.mark.usefixtures("quick")
def test_noise_is_held_against_the_records_of_the_client_that_spent_most(subject: Callable[..., Subject]) -> None:
    told = subject(MECHANISM, replace(MECHANISM, sample_rate=0.4, steps=60), MECHANISM, clients=3)
    told = replace(told, model=nn.Linear(1, 2))
    (check,) = [found for found in PrivacySpent().measure(told) if isinstance(found, Check)]
    # 200 records among three: 67, 67 and 66. Four weights.
    assert check.figure == pytest.approx(1.5 * np.sqrt(4 / 60) / (0.4 * 67))
    assert "67 records of client 2" in check.message
