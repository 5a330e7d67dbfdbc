"""Splits are disjoint, complete and stratified, and no patient is on both sides."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.base import Dataset
from assay.data.splits import Split, Splitting, keeps_official, sampled, split, stratified
from assay.errors import DataError, SpecError
from tests.mistakes import refused


def dataset(y: np.ndarray, groups: np.ndarray | None = None, official: np.ndarray | None = None) -> Dataset:
    return Dataset(
        name="made",
        x=np.arange(len(y), dtype=np.float32)[:, None],
        y=np.asarray(y, np.int64),
        class_names=("well", "ill"),
        feature_names=("number",),
        low=np.array([0.0], np.float32),
        high=np.array([1e6], np.float32),
        units="records",
        epsilons=(0.0,),
        groups=groups,
        official=official,
    )


def parts(one: Split) -> list[np.ndarray]:
    return [one.train, one.validation, one.calibration, one.test]


@st.composite
def labels(draw: st.DrawFn) -> np.ndarray:
    y = np.array([0] * draw(st.integers(8, 40)) + [1] * draw(st.integers(8, 40)))
    return np.random.default_rng(draw(st.integers(0, 999))).permutation(y)


@st.composite
def grouped(draw: st.DrawFn) -> Dataset:
    """Sixteen to twenty-four patients, every other one ill, two to four records each."""
    patients = draw(st.integers(16, 24))
    sizes = draw(st.lists(st.integers(2, 4), min_size=patients, max_size=patients))
    groups = np.repeat(np.arange(patients), sizes)
    return dataset(groups % 2, groups)


BY_SITE = Splitting(by="site", folds=3, official="ignore", validation=0.2)


def of_sites(site: list[str], groups: np.ndarray | None = None) -> Dataset:
    return replace(dataset(np.arange(len(site)) % 2, groups), site=np.array(site))


def test_a_fold_by_site_is_all_records_of_one_site_in_every_repeat() -> None:
    data = of_sites(["south", "north", "west"] * 20)
    for repeat in (0, 1):
        for fold, site in enumerate(("north", "south", "west")):
            found = split(data, BY_SITE, fold=fold, repeat=repeat, seed=3)
            assert set(data.site[found.test]) == {site} and len(found.test) == 20
            assert set(data.site[found.train]) == {"north", "south", "west"} - {site}
            assert np.array_equal(np.sort(np.concatenate(parts(found))), np.arange(60))


def test_folds_by_site_that_cannot_be_are_refused() -> None:
    plain = ["south", "north", "west"] * 20
    with refused(SpecError, "split.folds", 5, 3):
        split(of_sites(plain), BY_SITE.model_copy(update={"folds": 5}), fold=0, repeat=0, seed=0)
    with refused(DataError, "split.by", "site", "record"):
        split(dataset(np.arange(60) % 2), BY_SITE, fold=0, repeat=0, seed=0)
    with refused(DataError, "split.by", 20, 0):
        split(of_sites(["", "north", "west"] * 20), BY_SITE, fold=0, repeat=0, seed=0)
    with refused(DataError, "split.by", 20, 0):
        split(of_sites(plain, np.repeat(np.arange(20), 3)), BY_SITE, fold=0, repeat=0, seed=0)
    with pytest.raises(ValueError, match=r"set split\.official to ignore"):
        Splitting(by="site")


@given(labels(), st.integers(2, 5), st.integers(0, 9), st.sampled_from([0.0, 0.2]))
def test_parts_are_disjoint_and_complete(y: np.ndarray, folds: int, seed: int, calibration: float) -> None:
    asked = Splitting(folds=folds, calibration=calibration)
    for fold in range(folds):
        taken = np.concatenate(parts(split(dataset(y), asked, fold=fold, repeat=0, seed=seed)))
        assert np.array_equal(np.sort(taken), np.arange(len(y)))


@given(labels(), st.integers(2, 5), st.integers(0, 9))
def test_every_record_is_tested_once_a_repeat(y: np.ndarray, folds: int, seed: int) -> None:
    tests = [split(dataset(y), Splitting(folds=folds), fold=fold, repeat=1, seed=seed).test for fold in range(folds)]
    assert np.array_equal(np.sort(np.concatenate(tests)), np.arange(len(y)))


@given(labels(), st.integers(2, 5), st.integers(0, 9))
def test_folds_are_stratified(y: np.ndarray, folds: int, seed: int) -> None:
    for fold in range(folds):
        test = split(dataset(y), Splitting(folds=folds), fold=fold, repeat=0, seed=seed).test
        for label in (0, 1):
            assert abs((y[test] == label).sum() - (y == label).sum() / folds) < 1


@settings(max_examples=30)
@given(grouped(), st.integers(2, 4), st.integers(0, 9), st.sampled_from([0.0, 0.2]))
def test_no_group_straddles_two_parts(data: Dataset, folds: int, seed: int, calibration: float) -> None:
    assert data.groups is not None
    asked = Splitting(folds=folds, validation=0.3, calibration=calibration)
    for fold in range(folds):
        found = parts(split(data, asked, fold=fold, repeat=0, seed=seed))
        assert np.array_equal(np.sort(np.concatenate(found)), np.arange(len(data)))
        groups = [group for part in found for group in np.unique(data.groups[part])]
        assert len(groups) == len(set(groups))


@settings(max_examples=30)
@given(grouped(), st.integers(2, 4), st.integers(0, 9))
def test_parts_by_group_are_not_empty(data: Dataset, folds: int, seed: int) -> None:
    for fold in range(folds):
        one = split(data, Splitting(folds=folds, calibration=0.2), fold=fold, repeat=0, seed=seed)
        assert min(len(part) for part in parts(one)) > 0


@pytest.mark.parametrize("seed", range(5))
def test_few_large_groups_still_leave_something_for_validation(seed: int) -> None:
    data = dataset(np.arange(100) % 2, np.arange(100) // 20)
    assert len(split(data, Splitting(folds=5), fold=0, repeat=0, seed=seed).validation) > 0


@pytest.mark.parametrize("groups", [None, np.arange(60) // 3])
def test_equal_seeds_give_equal_splits(groups: np.ndarray | None) -> None:
    data = dataset(np.arange(60) // 3 % 2, groups)
    one, other = (split(data, Splitting(calibration=0.2), fold=1, repeat=2, seed=4) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(parts(one), parts(other), strict=True))


@pytest.mark.parametrize("given", [{"seed": 5}, {"repeat": 3}, {"fold": 2}])
def test_another_seed_repeat_or_fold_gives_another_split(given: dict[str, int]) -> None:
    data, usual = dataset(np.arange(60) % 2), {"seed": 4, "repeat": 2, "fold": 1}
    one, other = split(data, Splitting(), **usual), split(data, Splitting(), **usual | given)
    assert not np.array_equal(one.test, other.test)
    assert not np.array_equal(one.validation, other.validation)


def test_the_test_fold_does_not_depend_on_the_shares_inside() -> None:
    data = dataset(np.arange(60) % 2)
    one, other = (
        split(data, Splitting(validation=share, calibration=calibration), fold=1, repeat=0, seed=4)
        for share, calibration in ((0.1, 0.0), (0.3, 0.2))
    )
    assert np.array_equal(one.test, other.test)


@pytest.mark.parametrize("share", [0.1, 0.15, 0.2, 0.25])
def test_validation_takes_its_share_of_what_is_outside_the_test_fold(share: float) -> None:
    one = split(dataset(np.arange(1000) % 2), Splitting(validation=share), fold=0, repeat=0, seed=0)
    assert len(one.validation) / 800 == pytest.approx(share, abs=0.01)
    assert len(one.calibration) == 0


def test_calibration_takes_its_share_too() -> None:
    one = split(dataset(np.arange(1000) % 2), Splitting(validation=0.2, calibration=0.2), fold=0, repeat=0, seed=0)
    assert len(one.calibration) / 800 == pytest.approx(0.2, abs=0.01)


def test_too_few_records_of_a_class_name_the_class_and_the_way_out() -> None:
    with pytest.raises(DataError, match=r"at least 5 records of every class, but 'ill' has 3; .*split.folds=3"):
        split(dataset(np.array([0] * 20 + [1] * 3)), Splitting(), fold=0, repeat=0, seed=0)


def test_too_few_groups_say_how_many_there_are() -> None:
    with pytest.raises(DataError, match="5 folds need at least 5 groups, there are 4"):
        split(dataset(np.arange(40) % 2, np.arange(40) % 4), Splitting(), fold=0, repeat=0, seed=0)


def test_a_class_too_rare_for_validation_is_refused() -> None:
    with pytest.raises(DataError, match="a class has 1 record left for training and validation"):
        split(dataset(np.array([0] * 20 + [1] * 2)), Splitting(folds=2), fold=0, repeat=0, seed=0)


def test_where_patients_are_scarce_the_error_names_them() -> None:
    official = np.array(["train"] * 14 + ["test"] * 4)
    made = dataset(np.arange(18) % 2, np.array([1] * 14 + [2] * 4), official)
    with pytest.raises(DataError, match="1 group is left for training and validation; give more groups"):
        split(made, Splitting(), fold=0, repeat=0, seed=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Splitting(folds=0),
        lambda: Splitting(repeats=0),
        lambda: Splitting(validation=0.0),
        lambda: Splitting(validation=0.5),
        lambda: Splitting(calibration=-0.1),
    ],
)
def test_impossible_splittings_are_refused(make: Callable[[], Splitting]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        make()


def test_one_fold_tests_everyone_and_trains_nobody() -> None:
    one = split(dataset(np.arange(3) % 2), Splitting(folds=1), fold=0, repeat=0, seed=0)
    assert [len(part) for part in parts(one)] == [0, 0, 0, 3]


def test_bounds_of_a_data_set_are_in_order() -> None:
    with pytest.raises(DataError, match="every lower bound must lie below its upper bound"):
        Dataset(
            name="made",
            x=np.zeros((2, 1), np.float32),
            y=np.array([0, 1]),
            class_names=("well", "ill"),
            feature_names=("number",),
            low=np.array([1.0]),
            high=np.array([0.0]),
            units="",
            epsilons=(),
        )


def test_a_search_looks_at_validation_records_and_never_at_test_records() -> None:
    made = dataset(np.arange(200) % 2)
    usual = split(made, Splitting(folds=4), fold=1, repeat=0, seed=5)
    searched = split(made, Splitting(folds=4, tested="validation"), fold=1, repeat=0, seed=5)
    assert np.array_equal(searched.train, usual.train)
    assert np.array_equal(searched.test, usual.validation)
    assert len(searched.validation) == 0
    assert not set(usual.test) & {*searched.train, *searched.test}


def published(validation: int = 20) -> Dataset:
    """A hundred and twenty records whose publisher split them."""
    parts_of = ["train"] * (80 - validation) + ["validation"] * validation + ["test"] * 40
    return dataset(np.arange(120) % 2, official=np.array(parts_of))


@pytest.mark.parametrize("repeat", [0, 3])
def test_an_official_split_is_kept_whatever_the_repeat(repeat: int) -> None:
    found = split(published(), Splitting(folds=5, repeats=5), fold=0, repeat=repeat, seed=repeat)
    assert [part.tolist() for part in (found.train, found.validation, found.test)] == [
        list(range(60)),
        list(range(60, 80)),
        list(range(80, 120)),
    ]


def test_what_an_official_split_lacks_is_drawn_from_its_training_records() -> None:
    asked = Splitting(folds=5, validation=0.25, calibration=0.1)
    one, other = (split(published(validation=0), asked, fold=0, repeat=repeat, seed=0) for repeat in (0, 1))
    assert [len(part) for part in parts(one)] == [52, 20, 8, 40]
    assert one.test.tolist() == list(range(80, 120))
    assert np.array_equal(np.sort(np.concatenate(parts(one))), np.arange(120))
    assert not np.array_equal(one.validation, other.validation)


def test_an_official_split_may_be_ignored() -> None:
    ignored = Splitting(folds=4, official="ignore")
    assert keeps_official(published(), Splitting())
    assert not keeps_official(published(), ignored)
    tests = [split(published(), ignored, fold=fold, repeat=0, seed=0).test for fold in range(4)]
    assert np.array_equal(np.sort(np.concatenate(tests)), np.arange(120))


def test_a_search_for_settings_never_sees_official_test_records() -> None:
    found = split(published(), Splitting(tested="validation"), fold=0, repeat=0, seed=0)
    assert found.test.tolist() == list(range(60, 80))
    assert not set(found.train.tolist()) & set(range(80, 120))


@pytest.mark.parametrize(
    ("official", "said"),
    [
        (np.array(["train"] * 100 + ["dev"] * 20), r"names \['dev'\]"),
        (np.array(["train"] * 120), "no test records"),
        (np.array(["test"] * 120), "no train records"),
        (np.array(["train", "test"]), r"it has shape \(2,\)"),
    ],
)
def test_an_official_split_that_is_none_is_refused(official: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        dataset(np.arange(120) % 2, official=official)


def test_a_group_that_straddles_an_official_split_is_named() -> None:
    official = np.array(["train"] * 80 + ["test"] * 40)
    groups = np.arange(120)
    groups[90] = groups[3]
    with pytest.raises(DataError, match=r"group '3' straddles the official split \(1 such groups\)"):
        dataset(np.arange(120) % 2, groups, official)


@given(labels(), st.integers(2, 30), st.integers(0, 9))
def test_a_stratified_choice_holds_each_class_with_its_share(y: np.ndarray, most: int, seed: int) -> None:
    rows = np.arange(len(y))[::-1][: len(y) - 1][::-1]
    chosen = stratified(y, rows, most, seed=seed)
    assert len(chosen) == min(most, len(rows))
    assert set(chosen.tolist()) <= set(rows.tolist())
    assert (np.diff(chosen) > 0).all()
    for label in (0, 1):
        assert abs((y[chosen] == label).sum() - len(chosen) * (y[rows] == label).mean()) <= 1


def test_without_a_limit_every_row_is_chosen() -> None:
    rows = np.array([4, 7, 9])
    assert stratified(np.arange(10) % 2, rows, None, seed=0) is rows
    assert stratified(np.arange(10) % 2, rows, 3, seed=0) is rows


class Numbers:
    """Records that are computed when they are asked for."""

    ndim, dtype = 2, np.dtype(np.float32)

    def __init__(self, n: int) -> None:
        self.shape = (n, 1)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(rows, np.float32)[:, None]

    def fingerprint(self) -> str:
        return "numbers"


def test_a_sample_keeps_the_shares_of_parts_and_classes_and_says_so() -> None:
    found = sampled(published(), 30, seed=0)
    assert found.official is not None
    assert {part: int((found.official == part).sum()) for part in ("train", "validation", "test")} == {
        "train": 15,
        "validation": 5,
        "test": 10,
    }
    assert abs(found.y.mean() - 0.5) < 0.1
    assert found.warnings == ("a stratified sample of 30 of 120 records",)
    assert sampled(published(), 120, seed=0).warnings == ()


def test_the_sites_of_a_sample_are_those_of_its_records_and_enter_its_name() -> None:
    whole = published()
    site = np.array(["a", "b"])[np.arange(len(whole)) % 2]
    sited = replace(whole, site=site)
    found = sampled(sited, 30, seed=0)
    assert found.site is not None and found.part_of is not None
    assert np.array_equal(found.site, site[found.part_of.places])
    assert len({one.digest for one in (whole, sited, replace(whole, site=site[::-1]))}) == 3
    assert len({one.training_digest for one in (whole, sited, replace(whole, site=site[::-1]))}) == 3
    assert whole.identity == sited.identity
    with pytest.raises(DataError, match="site has shape"):
        replace(whole, site=site[:-1])


def test_records_and_labels_of_a_sample_belong_together_decoded_or_not() -> None:
    whole = published()
    behind = replace(whole, x=Numbers(len(whole)))
    near, far = sampled(whole, 30, seed=0), sampled(behind, 30, seed=0)
    assert np.array_equal(near.x[:, 0].astype(int) % 2, near.y)
    assert np.array_equal(far.x[np.arange(5)], near.x[:5])
    assert far.digest not in (near.digest, sampled(behind, 40, seed=0).digest, behind.digest)
