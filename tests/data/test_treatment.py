"""What treatments change and remove, counted right, whoever else is at work."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from assay.data.poisoning.feature_collision import FeatureCollision
from assay.data.poisoning.label_flips import LabelFlips
from assay.data.reweighting import RobustReweighting
from assay.data.sanitation.knn import KNNSanitation
from assay.data.treatment import Counts, TrainingRecords, Treated, Treatment, Workbench, held_out
from assay.errors import DataError
from assay.recipes import Recipe
from assay.registry import first_mistake
from assay.training.loop import Trainer
from tests.mistakes import refused

Clouds = Callable[..., tuple[np.ndarray, np.ndarray]]
Apply = Callable[..., Treated]


class Aimed(Treatment):
    """Holds out two records and shows what it was given."""

    name: Literal["aimed"] = "aimed"

    def hold_out(self, y: np.ndarray, *, generator: np.random.Generator) -> np.ndarray:
        return np.sort(generator.permutation(len(y))[:2])

    def apply(self, records: TrainingRecords, bench: Workbench) -> TrainingRecords:
        assert bench.targets.shape == (2, 3)
        assert not (records.x[:, None] == bench.targets).all(2).any()
        return records


def test_what_one_treatment_did_is_told_from_what_another_did(clouds: Clouds, apply: Apply) -> None:
    found = apply([LabelFlips(share=0.1), LabelFlips(share=0.1), KNNSanitation()], *clouds(), seed=2)
    assert list(found.steps) == ["label_flips", "label_flips 2", "knn_sanitation"]
    assert found.steps["label_flips"] == Counts(tampered=20)
    assert found.total == Counts(
        tampered=found.steps["label_flips"].tampered + found.steps["label_flips 2"].tampered,
        removed=found.steps["knn_sanitation"].removed,
        removed_tampered=found.steps["knn_sanitation"].removed_tampered,
    )
    assert found.counts["knn_sanitation.removed"] == found.counts["removed"] == 200 - len(found.y)


def test_a_treatment_draws_the_same_whoever_else_is_there(clouds: Clouds, apply: Apply) -> None:
    x, y = clouds()
    alone = apply([LabelFlips(share=0.1)], x, y)
    behind = apply([KNNSanitation(), LabelFlips(share=0.1)], x, y)
    twice = apply([LabelFlips(share=0.1), LabelFlips(share=0.1)], x, y)
    np.testing.assert_array_equal(alone.y, behind.y)
    assert twice.total.tampered == 40, "the second draws other records"


def test_records_that_are_aimed_at_are_in_no_training_and_can_be_found_again(clouds: Clouds, apply: Apply) -> None:
    x, y = clouds()
    found = apply([Aimed(), Aimed()], x, y, seed=5)
    aims = held_out([Aimed(), Aimed()], y, seed=5)
    assert list(aims) == ["aimed", "aimed 2"]
    gone = np.unique(np.concatenate(list(aims.values())))
    np.testing.assert_array_equal(found.x, np.delete(x, gone, axis=0))
    np.testing.assert_array_equal(found.y, np.delete(y, gone))
    assert (found.given, found.total) == (200 - len(gone), Counts())
    assert not np.array_equal(aims["aimed"], held_out([Aimed()], y, seed=6)["aimed"])


class Asking(Treatment):
    """Keeps what networks that it had trained answer."""

    name: Literal["asking"] = "asking"

    def apply(self, records: TrainingRecords, bench: Workbench) -> TrainingRecords:
        x = torch.from_numpy(records.x)
        ANSWERS[:] = [
            bench.fit(records).logits(x),
            bench.fit(records).logits(x),
            bench.fit(records, epochs=1).logits(x),
        ]
        return records


ANSWERS: list[torch.Tensor] = []


def test_a_treatment_is_handed_a_copy_of_the_network_that_has_learnt(
    clouds: Clouds, learn: Callable[..., Trainer]
) -> None:
    x, y = clouds(gap=2.0)
    trainer, untouched = learn([Asking()], x, y), learn([], x, y)
    once, again, shorter = ANSWERS
    assert all(torch.equal(a, b) for a, b in zip(trainer.model.parameters(), untouched.model.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in trainer.model.parameters())
    assert torch.equal(once, again)
    correct = [(logits.argmax(1).numpy() == y).mean() for logits in (once, shorter)]
    assert correct[0] > 0.9
    assert not torch.equal(once, shorter)


def test_nothing_asked_is_nothing_done(clouds: Clouds, apply: Apply) -> None:
    x, y = clouds()
    for treatments in ([], [RobustReweighting()]):
        found = apply(treatments, x, y)
        assert found.x is x
        assert found.counts == {"given": 200, "tampered": 0, "removed": 0, "removed_tampered": 0}


def test_a_class_that_is_lost_is_an_error(apply: Apply) -> None:
    x = np.array([[0.0], *([20.0 + place / 100] for place in range(7))], np.float32)
    lone = np.array([0, 1, 1, 1, 1, 1, 1, 1])
    with refused(DataError, "data", "knn_sanitation"):
        apply([KNNSanitation(neighbours=3)], x, lone)


@pytest.mark.parametrize("attack", ["label_flips", "backdoor", {"name": "feature_collision", "epsilon": 1}])
@pytest.mark.parametrize("defence", ["knn_sanitation", "loss_sanitation", "spectral_signatures"])
def test_a_filter_that_is_listed_before_an_attack_is_refused(attack: Any, defence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Recipe(data=("jitter", defence, attack))
    assert first_mistake(caught.value)["given"] == defence
    assert Recipe(data=("jitter", attack, defence)).data[2].name == defence
    # Weights are given while the network learns, wherever that stands.
    assert Recipe(data=("robust_reweighting", attack)) and Recipe(data=(defence, defence, "jitter"))


def test_a_second_attack_of_a_kind_that_nobody_would_measure_is_refused() -> None:
    collision = {"name": "feature_collision", "epsilon": 1}
    for attack, name in (("backdoor", "backdoor"), (collision, "feature_collision")):
        with pytest.raises(ValidationError) as caught:
            Recipe(data=(attack, "label_flips", attack))
        assert first_mistake(caught.value) == {"setting": "data", "given": name, "allowed": "once"}
    assert len(Recipe(data=("label_flips", "backdoor", collision, "label_flips")).data) == 4


@pytest.mark.parametrize(
    ("treatment", "defends"),
    [(LabelFlips(), False), (FeatureCollision(epsilon=1), False), (KNNSanitation(), True), (RobustReweighting(), True)],
)
def test_defences_say_that_they_are(treatment: Treatment, defends: bool) -> None:
    assert (treatment.defends, treatment.attacks) == (defends, not defends)
    assert not treatment.per_record
