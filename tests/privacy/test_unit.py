"""A patient with all of its records moves the clipped sum by at most the clipping norm, and is what is counted."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.errors import IncompatibleRecipeError, UserError
from assay.objectives.base import Batch
from assay.privacy.sampling import PatientSampling, RecordSampling, numbered
from assay.privacy.unit import protected, protected_unit
from assay.privacy.update import PrivateUpdate
from assay.recipes import Privacy, Recipe, Training
from assay.seeds import Draw
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.loop import Trainer
from assay.training.pieces import pieces_of_patients
from tests.training.test_collective import Member, apart, together

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]
CLIP = 0.3
SIZES = (1, 3, 7, 2, 1, 5, 12, 4)
"""Records of each patient."""


@pytest.fixture
def make(network: Network, blobs: Blobs, blob_bounds: Bounds, given_noise: float) -> Callable[..., Trainer]:
    """A trainer in float64: ``make(patients, chosen=..., privacy=..., **training)`` on the chosen of 35 records."""
    x, y = blobs(sum(SIZES), torch.float64)
    x = x[:, None]
    bounds = Bounds(low=blob_bounds.low[None].double(), high=blob_bounds.high[None].double())
    first = network(torch.float64).state_dict()

    def fresh(
        patients: np.ndarray | None,
        chosen: np.ndarray | None = None,
        *,
        privacy: dict[str, Any] | None = None,
        choice: dict[str, Any] | None = None,
        member: Member | None = None,
        **training: Any,
    ) -> Trainer:
        model = network(torch.float64)
        model.load_state_dict(first)
        settings = {"epsilon": 8.0, "max_grad_norm": CLIP, "delta": 1e-3, **(privacy or {})}
        recipe = Recipe(
            training=Training(**{"epochs": 3, "batch_size": 4, "optimizer": "sgd", "learning_rate": 0.1, **training}),
            privacy=Privacy(**settings),
            **(choice or {}),
        )
        rows = np.arange(len(y)) if chosen is None else chosen
        own = None if patients is None else patients[rows]
        return build_trainer(model, recipe, x[rows], y[rows], bounds=bounds, seed=3, patients=own, collective=member)

    return fresh


PATIENTS = np.random.default_rng(0).permutation(np.repeat([f"P{k}" for k in range(len(SIZES))], SIZES))


def clipped_sum(trainer: Trainer, batch: np.ndarray) -> list[Tensor]:
    """What a step sums over all workers before noise, of the records at these positions."""
    pieces = trainer.pieces(batch)
    fed = trainer._feed.follow([batch[piece.rows.ravel()] for piece in pieces])
    return trainer._own_gradients(pieces, fed, total=len(batch))[0]


def by_autograd(trainer: Trainer, batch: np.ndarray, patients: np.ndarray) -> list[Tensor]:
    """The same, one patient after the other, by plain autograd."""
    model, total = trainer.model, [torch.zeros_like(p) for p in trainer.model.parameters()]
    x, y = next(trainer._feed.follow([batch]))
    for one in np.unique(patients[batch]):
        own = torch.from_numpy(np.flatnonzero(patients[batch] == one))
        seen = Batch(
            x=x[own], y=y[own], bounds=trainer._gradients.bounds, draw=Draw(np.random.default_rng(0), total=len(own))
        )
        with trainer._update.crafting():
            loss = trainer._gradients.objective.losses(model, seen, x[own]).mean()
            gradient = torch.autograd.grad(loss, list(model.parameters()))
        length = torch.sqrt(sum((g**2).sum() for g in gradient))
        total = [t + g * min(1.0, CLIP / float(length)) for t, g in zip(total, gradient, strict=True)]
    return total


def length(tensors: list[Tensor]) -> float:
    return float(torch.cat([t.flatten() for t in tensors]).norm())


@pytest.mark.parametrize("at_once", [None, 12])
def test_the_sum_is_that_of_each_patients_mean_gradient_clipped(make: Any, at_once: int | None) -> None:
    trainer = make(PATIENTS, records_at_once=at_once)
    batch = np.argsort(PATIENTS, kind="stable")
    expected = by_autograd(trainer, batch, PATIENTS)
    assert length(expected) > 0.5 * CLIP
    for got, wanted in zip(clipped_sum(trainer, batch), expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("one", range(len(SIZES)))
def test_a_patient_more_or_less_moves_the_sum_by_at_most_the_clipping_norm(make: Any, one: int) -> None:
    batch = np.argsort(PATIENTS, kind="stable")
    without = batch[PATIENTS[batch] != f"P{one}"]
    trainer = make(PATIENTS)
    moved = [a - b for a, b in zip(clipped_sum(trainer, batch), clipped_sum(trainer, without), strict=True)]
    assert 0 < length(moved) <= CLIP * (1 + 1e-9)


def test_clipped_by_record_a_patient_moves_the_sum_by_more(make: Any) -> None:
    """Else the test above could not fail."""
    batch = np.argsort(PATIENTS, kind="stable")
    without = batch[PATIENTS[batch] != "P6"]
    trainer = make(PATIENTS, privacy={"unit": "record"})
    moved = [a - b for a, b in zip(clipped_sum(trainer, batch), clipped_sum(trainer, without), strict=True)]
    assert length(moved) > 3 * CLIP


@pytest.mark.parametrize("choice", [{}, {"data": ["jitter"]}, {"objective": {"name": "pgd", "epsilon": 0.3}}])
def test_one_record_a_patient_is_record_level_privacy(make: Any, choice: dict[str, Any]) -> None:
    ids = np.random.default_rng(1).permutation(len(PATIENTS))
    by_patient, by_record = make(ids, choice=choice), make(ids, choice=choice, privacy={"unit": "record"})
    if "data" not in choice:
        by_record = make(None, choice=choice)
    for trainer in (by_patient, by_record):
        trainer.run()
    assert by_patient.mechanism.unit == "patient"
    for got, wanted in zip(by_patient.model.parameters(), by_record.model.parameters(), strict=True):
        assert torch.equal(got, wanted)


def test_copies_of_records_are_averaged_before_the_records_of_a_patient(make: Any) -> None:
    batch = np.argsort(PATIENTS, kind="stable")
    trainer = make(PATIENTS, choice={"data": ["jitter"]}, privacy={"augmentations": 3})
    without = batch[PATIENTS[batch] != "P6"]
    # Each record draws by its place in the batch: the patient who is left out stands last of all.
    batch = np.concatenate([without, batch[PATIENTS[batch] == "P6"]])
    assert length(clipped_sum(trainer, batch)) <= len(SIZES) * CLIP
    seen = trainer.pieces(batch)
    assert sorted(len(piece.rows) for piece in seen) == [1, 2, 4, 7, 12]


def test_the_account_is_of_patients(make: Any) -> None:
    trainer = make(PATIENTS)
    mechanism = trainer.mechanism
    assert trainer.units == len(SIZES)
    assert trainer.steps_per_epoch == 2
    assert (mechanism.unit, mechanism.sample_rate) == ("patient", 0.5)
    ones = trainer._update.finish([torch.ones(200_000, dtype=torch.float64)], np.arange(0), 0)[0]
    assert float(ones.mean()) == pytest.approx(1 / 4, abs=0.01)
    assert float(ones.std()) == pytest.approx(mechanism.noise_multiplier * CLIP / 4, rel=0.02)


def test_delta_is_held_against_patients(make: Any) -> None:
    with pytest.raises(UserError) as caught:
        make(PATIENTS, privacy={"delta": 0.13})
    assert (caught.value.setting, caught.value.given) == ("privacy.delta", 0.13)
    assert caught.value.allowed == pytest.approx(1 / 8)
    with pytest.raises(UserError):
        make(PATIENTS, privacy={"delta": 0.13, "unit": "record"})
    make(PATIENTS, privacy={"delta": 0.02, "unit": "record"})


def test_at_most_so_many_records_of_a_drawn_patient_enter_a_step() -> None:
    owners = numbered(PATIENTS)
    sampling = PatientSampling(owners, most=3)
    seen = np.zeros(len(owners))
    drawn = np.zeros(len(SIZES))
    for step in range(1500):
        rows = sampling.draw(0, step, 0.4)
        assert len(np.unique(rows)) == len(rows)
        counts = np.bincount(owners[rows], minlength=len(SIZES))
        of_each = np.bincount(owners)
        assert set(counts[counts > 0]) <= {1, 2, 3}
        assert (counts[counts > 0] == np.minimum(of_each, 3)[counts > 0]).all()
        assert (np.diff(owners[rows]) >= 0).all()
        drawn += counts > 0
        seen[rows] += 1
    assert drawn / 1500 == pytest.approx(np.full(len(SIZES), 0.4), abs=0.06)
    # Every record of a patient as often as every other.
    assert seen / 1500 == pytest.approx(0.4 * np.minimum(of_each, 3)[owners] / of_each[owners], abs=0.06)


def test_a_patient_draws_what_a_record_would() -> None:
    ids = np.random.default_rng(2).permutation(50)
    by_patient, by_record = PatientSampling(numbered(ids), most=4), RecordSampling(50)
    for step in range(20):
        assert np.array_equal(by_patient.draw(1, step, 0.3), by_record.draw(1, step, 0.3))


def test_patients_are_numbered_as_they_appear() -> None:
    assert numbered(np.array(["b", "a", "b", "c"])).tolist() == [0, 1, 0, 2]


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("at_once", [None, 1, 5, 8])
def test_pieces_hold_every_record_once_and_no_part_of_a_patient(size: int, at_once: int | None) -> None:
    owners = np.repeat(np.arange(len(SIZES)), SIZES)
    counted = np.zeros(len(owners))
    of_worker: list[set[int]] = []
    for rank in range(size):
        mine = pieces_of_patients(owners, rank=rank, size=size, at_once=at_once)
        of_worker.append({int(one) for piece in mine for one in owners[piece.rows[0]]})
        for piece in mine:
            assert (owners[piece.rows] == owners[piece.rows[0]]).all()
            assert at_once is None or piece.rows.size <= max(at_once, len(piece.rows))
            weights = np.full(piece.rows.shape, 1 / len(piece.rows)) if piece.weights is None else piece.weights
            assert weights.sum(0) == pytest.approx(1)
            assert (weights > 0).sum() * 2 > weights.size
            np.add.at(counted, piece.rows[weights > 0], 1)
    assert (counted == 1).all()
    assert sum(map(len, of_worker)) == len(SIZES)
    assert pieces_of_patients(owners[:0], rank=0, size=size, at_once=at_once) == []


def test_workers_that_share_patients_do_what_one_does(make: Any) -> None:
    alone = make(PATIENTS)
    alone.run()
    assert all(apart(one, alone) < 1e-11 for one in together(2, lambda member: make(PATIENTS, member=member)))


def test_a_piece_must_hold_a_patient(make: Any) -> None:
    with pytest.raises(IncompatibleRecipeError) as caught:
        make(PATIENTS, records_at_once=8)
    assert caught.value.setting == "training.records_at_once"
    assert (caught.value.given, caught.value.allowed) == (8, 12)
    make(PATIENTS, records_at_once=8, privacy={"records_per_patient": 8})


def test_the_unit_is_the_patient_where_there_are_patients() -> None:
    ids = np.array([1, 1, 2])
    private, asked = Privacy(epsilon=1.0), Privacy(epsilon=1.0, unit="record")
    assert [protected_unit(p, g) for p in (None, private, asked) for g in (None, ids)] == [
        "record", "patient", "record", "patient", "record", "record",
    ]  # fmt: skip
    assert [protected(private, ids, 3), protected(asked, ids, 3), protected(private, None, 3)] == [2, 3, 3]
    with pytest.raises(IncompatibleRecipeError) as caught:
        protected_unit(Privacy(epsilon=1.0, unit="patient"), None)
    assert (caught.value.setting, caught.value.given) == ("privacy.unit", "patient")


def test_a_private_update_without_patients_is_of_records() -> None:
    update = PrivateUpdate(nn.Linear(1, 2), Privacy(epsilon=2.0), records=200, batch_size=20, steps=10, seed=0)
    assert update.mechanism(1).unit == "record"
