"""Who holds which record: every record exactly once, no empty client, and mixtures that follow their distribution."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from assay import seeds
from assay.data.base import Dataset
from assay.data.partition import Partition, deal_alike, partition, partition_dataset, partition_test
from assay.data.partition_counts import dirichlet_counts, pathological_counts
from assay.errors import DataError
from assay.recipes import Federation
from tests.mistakes import refused

SKEWED = {"clients": 5, "partition": "dirichlet", "alpha": 0.3, "smallest_client": 5}
DEALT: dict[str, dict[str, float]] = {
    "iid": {},
    "dirichlet": {"alpha": 0.3, "smallest_client": 2},
    "pathological": {"classes_per_client": 2},
    "quantity": {"alpha": 0.5, "smallest_client": 2},
}


def same(one: Partition, other: Partition) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def counted(parts: Partition, labels: np.ndarray, classes: int) -> np.ndarray:
    return np.array([np.bincount(labels[part], minlength=classes) for part in parts])


@pytest.mark.parametrize("name", DEALT)
@pytest.mark.parametrize("whole", [False, True], ids=["records", "patients"])
@pytest.mark.parametrize("seed", range(4))
def test_every_record_is_at_one_client_and_no_client_is_empty(name: str, whole: bool, seed: int) -> None:
    generator = np.random.default_rng(seed)
    rows = np.sort(generator.permutation(5000)[:600])
    labels = generator.integers(0, 4, 600)
    patients = generator.integers(0, 150, 600) if whole else None
    federation = Federation(clients=6, partition=name, **DEALT[name])
    parts = partition(rows, labels, federation, seed=seed, groups=patients)
    assert len(parts) == 6
    assert np.array_equal(np.sort(np.concatenate(parts)), rows)
    assert all(len(part) and (np.diff(part) > 0).all() for part in parts)
    if patients is not None:
        held = [set(patients[np.isin(rows, part)].tolist()) for part in parts]
        assert sum(len(own) for own in held) == len(set.union(*held))
    assert same(parts, partition(rows, labels, federation, seed=seed, groups=patients))
    assert not same(parts, partition(rows, labels, federation, seed=seed + 100, groups=patients))


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 99))
def test_an_iid_partition_is_disjoint_complete_and_balanced(records: int, clients: int, seed: int) -> None:
    rows = np.arange(100, 100 + 3 * records, 3)
    federation = Federation(clients=clients)
    if records < clients:
        with pytest.raises(DataError, match=f"{records} records cannot be shared among {clients} clients; use fewer"):
            partition(rows, rows % 2, federation, seed=seed)
        return
    parts = partition(rows, rows % 2, federation, seed=seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), rows)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_clients_of_a_dirichlet_partition_differ_more_than_by_chance(seed: int) -> None:
    rows, labels = np.arange(300), np.arange(300) % 3
    spread = []
    for federation in (Federation(**SKEWED), Federation(clients=5)):
        counts = counted(partition(rows, labels, federation, seed=seed), labels, 3)
        spread.append((counts / counts.sum(1, keepdims=True)).std(0).mean())
    assert spread[0] > 3 * spread[1]


@pytest.mark.parametrize(("alpha", "clients"), [(0.5, 3), (2.0, 5)])
def test_shares_of_a_class_over_clients_follow_the_dirichlet_distribution(alpha: float, clients: int) -> None:
    """Of 10,000 classes, each is dealt by a draw of its own, so one partition holds 10,000 draws."""
    records, classes = 10**9, 10_000
    drawn = dirichlet_counts(
        np.full(classes, records), clients=clients, alpha=alpha, smallest=1, generator=np.random.default_rng(0)
    )
    assert drawn is not None and drawn.accepted == 1
    shares = drawn.counts / records
    assert np.array_equal(drawn.counts.sum(0), np.full(classes, records))
    for own in shares:
        # Each share alone follows Beta(alpha, (clients - 1) alpha).
        assert stats.kstest(own, stats.beta(alpha, (clients - 1) * alpha).cdf).pvalue > 0.001
    mean, whole = 1 / clients, clients * alpha
    covariance = (np.diag(np.full(clients, mean)) - mean**2) / (whole + 1)
    np.testing.assert_allclose(np.cov(shares), covariance, atol=0.004)


def test_dealt_records_have_the_drawn_numbers() -> None:
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    federation = Federation(**SKEWED)
    parts = partition(np.arange(100), labels, federation, seed=3)
    drawn = dirichlet_counts(
        np.array([50, 30, 20]), clients=5, alpha=0.3, smallest=5, generator=seeds.stream(3, "dirichlet")
    )
    assert drawn is not None
    assert np.array_equal(counted(parts, labels, 3), drawn.counts)


def test_a_partition_that_was_drawn_again_says_that_it_is_biased() -> None:
    rows, labels = np.arange(200), np.arange(200) % 2
    free = partition(rows, labels, Federation(clients=3, partition="dirichlet", alpha=50.0), seed=0)
    assert free.note == ""
    bound = Federation(clients=5, partition="dirichlet", alpha=0.2, smallest_client=10)
    note = partition(rows, labels, bound, seed=0).note
    assert "drawn again, so clients are more alike" in note
    share = float(note.split("%")[0].removeprefix("about ")) / 100
    generator, accepted = np.random.default_rng(5), 0
    for _ in range(2000):
        ends = np.rint(np.cumsum(generator.dirichlet(np.full(5, 0.2), 2), axis=1) * 100)
        accepted += int(np.diff(ends, axis=1, prepend=0).sum(0).min() >= 10)
    assert share == pytest.approx(accepted / 2000, abs=0.1)


@pytest.mark.parametrize("name", ["dirichlet", "quantity"])
def test_an_alpha_that_cannot_be_dealt_ends_within_a_second(name: str) -> None:
    federation = Federation(clients=20, partition=name, alpha=0.01, smallest_client=5)
    started = time.perf_counter()
    with refused(DataError, "federation.alpha", 0.01):
        partition(np.arange(200), np.arange(200) % 2, federation, seed=0)
    assert time.perf_counter() - started < 1


def test_more_records_needed_than_there_are_is_refused_at_once() -> None:
    federation = Federation(clients=10, partition="dirichlet", alpha=0.5, smallest_client=30)
    with pytest.raises(DataError, match="raise alpha, or lower smallest_client or clients"):
        partition(np.arange(290), np.arange(290) % 2, federation, seed=0)


@pytest.mark.parametrize("alpha", [0, -1, float("nan"), float("inf"), 1e9])
def test_an_alpha_that_is_no_concentration_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        Federation(partition="dirichlet", alpha=alpha)


@pytest.mark.parametrize("alpha", [1e-300, 1e-12, 1e6])
def test_extreme_alphas_end_in_a_partition_or_a_refusal(alpha: float) -> None:
    federation = Federation(clients=2, partition="dirichlet", alpha=alpha, smallest_client=1)
    try:
        parts = partition(np.arange(40), np.arange(40) % 4, federation, seed=1)
    except DataError:
        return
    assert sorted(np.concatenate(parts).tolist()) == list(range(40))
    if alpha > 1:
        assert [len(part) for part in parts] == [20, 20]


@given(st.integers(2, 8), st.integers(1, 8), st.integers(1, 30), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_each_client_of_a_pathological_partition_has_so_many_classes(
    classes: int, each: int, clients: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    available = generator.integers(40, 200, classes)
    if each > classes or clients * each < classes:
        with pytest.raises(DataError, match="classes_per_client"):
            pathological_counts(available, clients=clients, classes_per_client=each, generator=generator)
        return
    counts = pathological_counts(available, clients=clients, classes_per_client=each, generator=generator)
    assert ((counts > 0).sum(1) == each).all()
    assert np.array_equal(counts.sum(0), available)
    for place in range(classes):
        held = counts[counts[:, place] > 0, place]
        assert held.max() - held.min() <= 1


def test_a_common_class_is_held_by_more_clients() -> None:
    counts = pathological_counts(
        np.array([300, 100]), clients=8, classes_per_client=1, generator=np.random.default_rng(0)
    )
    assert sorted(counts.sum(1).tolist()) == [50] * 8


def test_a_class_with_too_few_records_for_its_clients_is_refused() -> None:
    with refused(DataError, "federation.clients", 6):
        partition(
            np.arange(33),
            np.repeat([0, 1], [30, 3]),
            Federation(clients=6, partition="pathological", classes_per_client=2),
            seed=0,
        )


def test_sizes_of_a_quantity_partition_differ_and_labels_do_not() -> None:
    rows, labels = np.arange(20_000), np.arange(20_000) % 2
    federation = Federation(clients=4, partition="quantity", alpha=0.5, smallest_client=100)
    counts = counted(partition(rows, labels, federation, seed=2), labels, 2)
    sizes = counts.sum(1)
    assert sizes.max() > 3 * sizes.min()
    np.testing.assert_allclose(counts[:, 0] / sizes, 0.5, atol=0.06)


SITES = np.array(["east", "west", "west", "north", "east", "west"])


def test_each_site_is_a_client_whatever_clients_says() -> None:
    rows = np.arange(10, 16)
    parts = partition(rows, np.arange(6) % 2, Federation(partition="natural"), seed=0, sites=SITES)
    assert parts.sites == ("east", "north", "west")
    assert [part.tolist() for part in parts] == [[10, 14], [13], [11, 12, 15]]
    assert parts.note == "3 clients, one for each site; clients: 10 is not used"


def test_each_patient_is_a_client_where_this_is_asked() -> None:
    federation = Federation(partition="natural", by="patient", clients=3)
    parts = partition(np.arange(6), np.arange(6) % 2, federation, seed=0, groups=np.array([7, 9, 7, 8, 9, 9]))
    assert [part.tolist() for part in parts] == [[0, 2], [3], [1, 4, 5]]
    assert (parts.sites, parts.note) == ((), "3 clients, one for each patient")


@pytest.mark.parametrize(
    ("by", "given_", "about"),
    [
        ("site", "site", {}),
        ("patient", "patient", {}),
        ("site", 1, {"sites": np.array(["", *SITES[1:]])}),
        ("site", 1, {"sites": SITES, "groups": np.array([1, 1, 2, 3, 4, 5])}),
    ],
    ids=["no sites", "no patients", "a record of no site", "a patient at two sites"],
)
def test_natural_clients_that_the_data_do_not_determine_are_refused(
    by: Any, given_: Any, about: dict[str, Any]
) -> None:
    with refused(DataError, "federation.by", given_):
        partition(np.arange(6), np.arange(6) % 2, Federation(partition="natural", by=by), seed=0, **about)


def test_more_clients_than_patients_is_refused() -> None:
    with refused(DataError, "federation.clients", 4, 3):
        partition(np.arange(9), np.arange(9) % 2, Federation(clients=4), seed=0, groups=np.arange(9) // 3)


def dataset(**about: Any) -> Dataset:
    n = 60
    settings: dict[str, Any] = {
        "name": "made",
        "x": np.zeros((n, 1), np.float32),
        "y": np.arange(n) % 2,
        "class_names": ("well", "ill"),
        "feature_names": ("a",),
        "low": np.full(1, -1.0, np.float32),
        "high": np.full(1, 1.0, np.float32),
        "units": "units",
        "epsilons": (0.0,),
    }
    return Dataset(**{**settings, **about})


def test_hospitals_are_no_patients() -> None:
    groups = np.arange(60) // 20
    federation = Federation(partition="natural", by="patient")
    with refused(DataError, "federation.by", "patient", "site"):
        partition_dataset(dataset(groups=groups, group_kind="site"), np.arange(60), federation, seed=0)
    assert len(partition_dataset(dataset(groups=groups), np.arange(60), federation, seed=0)) == 3


def test_test_records_of_a_site_are_those_of_that_site() -> None:
    sites = np.array(["a", "b", "c"])[np.arange(60) // 20]
    data, federation = dataset(site=sites), Federation(partition="natural")
    train, test = np.arange(0, 40), np.arange(30, 60)
    training = partition_dataset(data, train, federation, seed=0)
    assert training.sites == ("a", "b")
    # Of site a no record is tested, and site c is no client.
    assert [part.tolist() for part in partition_test(data, test, training, federation, seed=0)] == [
        [],
        list(range(30, 40)),
    ]


@pytest.mark.parametrize("name", ["dirichlet", "pathological"])
def test_test_records_have_the_labels_of_the_training_records(name: str) -> None:
    labels = np.arange(4000) % 4
    data = dataset(x=np.zeros((4000, 1), np.float32), y=labels, class_names=("a", "b", "c", "d"))
    federation = Federation(clients=4, partition=name, alpha=0.3, classes_per_client=2)
    train, test = np.arange(2000), np.arange(2000, 4000)
    training = partition_dataset(data, train, federation, seed=1)
    dealt = partition_test(data, test, training, federation, seed=1)
    assert np.array_equal(np.sort(np.concatenate(dealt)), test)
    held = counted(training, labels, 4)
    np.testing.assert_allclose(np.array([np.bincount(labels[own], minlength=4) for own in dealt]), held, atol=2)


def test_test_records_of_a_patient_stay_together() -> None:
    patients = np.arange(200) // 5
    labels = patients % 2
    shares = [np.array([0, 0, 0, 1]), np.array([0, 1, 1, 1])]
    dealt = deal_alike(np.arange(200), labels, shares, classes=2, seed=0, groups=patients)
    held = [set(patients[own].tolist()) for own in dealt]
    assert not held[0] & held[1] and len(held[0] | held[1]) == 40
    assert np.bincount(labels[dealt[0]]).tolist() == [75, 25]


@pytest.mark.parametrize("name", DEALT)
def test_test_records_of_a_patient_are_at_one_client(name: str) -> None:
    patients = np.arange(600) // 5
    data = dataset(x=np.zeros((600, 1), np.float32), y=patients % 2, groups=patients)
    federation = Federation(clients=3, partition=name, **DEALT[name])
    training = partition_dataset(data, np.arange(400), federation, seed=1)
    dealt = partition_test(data, np.arange(400, 600), training, federation, seed=1)
    held = [set(patients[own].tolist()) for own in dealt]
    assert sum(len(own) for own in held) == len(set.union(*held)) == 40
