"""The likelihood ratio is the analytical one, finds whom a network learned by heart, and accuses nobody by chance."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import nn

from assay import intervals, seeds
from assay.errors import SpecError
from assay.evaluations.likelihood import likelihood_ratio
from assay.evaluations.lira import LiRA, pool_halves
from assay.evaluations.membership import Membership
from assay.evaluations.pool import Pool
from assay.evaluations.queries import asked
from assay.evaluations.subject import Subject
from assay.evaluations.units import MembershipUnits
from assay.executors import LocalExecutor, Outcome
from assay.recipes import Federation, Privacy, Recipe
from assay.registry import build
from assay.results import Check, Finding, Measurement
from assay.study.measure import run_trial
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study
from assay.training.log import TrainingLog

Make = Callable[..., Subject]
One = Callable[..., Measurement]

MEMBERS = OTHERS = 1000
LOG = TrainingLog(seconds=1.0, worker_seconds=1.0, workers=1)


@dataclass(frozen=True)
class Learner:
    """Trains by heart, on whatever rows it is given; what a subject's ``train`` would do, in a tenth of a second."""

    x: np.ndarray
    y: np.ndarray
    steps: int = 30

    def __call__(self, rows: np.ndarray, name: str, recipe: Recipe | None = None) -> nn.Module:
        x, y = torch.from_numpy(self.x[rows]), torch.from_numpy(self.y[rows])
        with torch.random.fork_rng():
            torch.manual_seed(seeds.torch_seed(0, name))
            model = nn.Sequential(nn.Linear(x.shape[1], 64), nn.ReLU(), nn.Linear(64, 2))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(self.steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        return model.eval()


@pytest.fixture(scope="module")
def people() -> tuple[np.ndarray, np.ndarray]:
    """Members, non-members, and as many again whom nobody asks for: a tenth of the labels is wrong."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(3 * MEMBERS, 100)).astype(np.float32)
    wrong = generator.random(len(x)) < 0.1
    return x, ((x[:, 0] > 0) ^ wrong).astype(np.int64)


@pytest.fixture(scope="module")
def pool(make: Make, people: tuple[np.ndarray, np.ndarray]) -> Callable[..., Subject]:
    """A subject of members and non-members, whose model was trained on the rows that are given."""

    def subject(rows: np.ndarray, steps: int = 30, **settings: Any) -> Subject:
        everyone = Learner(*people, steps=steps)
        x, y = (column[: MEMBERS + OTHERS] for column in people)
        subject = make(everyone(rows, "target"), x, y, train=np.arange(MEMBERS), log=LOG)
        return replace(subject, **{"train": Learner(x, y, steps=steps), **settings})

    return subject


class Elsewhere(LocalExecutor):
    """Sends everything through a wire, and answers in reverse."""

    workers = 2

    def map(self, fn: Callable[..., Any], items: Iterable[Any], shared: Any) -> Iterator[Outcome]:
        work = list(enumerate(items))[::-1]
        for index, item in work:
            there = pickle.loads(pickle.dumps((fn, item, shared)))
            yield Outcome(index=index, value=there[0](there[1], there[2]))


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_who_was_learned_by_heart_is_found(pool: Callable[..., Subject], one: One, mode: Any) -> None:
    subject = pool(np.arange(MEMBERS))
    found = LiRA(mode=mode, draws=50).measure(subject)
    rare = one(rows(found), "lira_tpr", false_positive_rate=0.01)
    assert (rare.n, rare.conditions["non_members"]) == (MEMBERS, OTHERS)
    assert rare.value >= 0.05
    assert rare.low > 0.05
    assert one(rows(found), "lira_auc").low > 0.7
    assert [check.verdict for check in found if isinstance(check, Check)] == ["pass"]
    plain = one(rows(Membership(draws=50).measure(subject)), "membership_tpr", false_positive_rate=0.01)
    assert rare.value > 2 * plain.value


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize(
    ("taught", "steps"),
    [pytest.param(np.arange(2 * MEMBERS, 3 * MEMBERS), 30, id="others"), pytest.param(np.arange(0), 0, id="nothing")],
)
def test_a_model_that_never_saw_them_tells_nobody_apart(
    pool: Callable[..., Subject], one: One, mode: Any, taught: np.ndarray, steps: int
) -> None:
    subject = pool(taught, steps, train=pool(taught[:1]).train)
    found = LiRA(mode=mode, draws=50).measure(subject)
    for rate in (0.1, 0.01):
        row = one(rows(found), "lira_tpr", false_positive_rate=rate)
        assert row.low <= rate <= row.high
        assert row.high < 4 * rate
    auc = one(rows(found), "lira_auc")
    assert auc.low < 0.5 < auc.high


def rows(found: Iterable[Finding]) -> list[Measurement]:
    """Without the checks."""
    return [finding for finding in found if isinstance(finding, Measurement)]


def two_each(mean: np.ndarray, deviation: float | np.ndarray) -> np.ndarray:
    """Two values for each record that have exactly that mean and that standard deviation, (2, n)."""
    reach = np.broadcast_to(deviation, mean.shape) / np.sqrt(2)
    return np.stack([mean - reach, mean + reach])


@pytest.mark.parametrize("per_record", [False, True])
def test_the_ratio_is_that_of_the_two_normal_densities(per_record: bool) -> None:
    generator = np.random.default_rng(0)
    n = 50
    own, inner, outer = generator.normal(size=(3, n)) * 4
    spread = generator.uniform(0.5, 2, (2, n)) if per_record else np.array([[0.7], [1.6]]) * np.ones(n)
    shadows = np.concatenate([two_each(inner, spread[0]), two_each(outer, spread[1])])
    inside = np.array([True, True, False, False])[:, None] * np.ones(n, bool)
    online = likelihood_ratio(own, shadows, inside, mode="online", per_record=per_record)
    assert online == pytest.approx(norm.logpdf(own, inner, spread[0]) - norm.logpdf(own, outer, spread[1]))
    offline = likelihood_ratio(own, shadows, inside, mode="offline", per_record=per_record)
    assert norm.cdf(offline) == pytest.approx(norm.cdf(own, outer, spread[1]))
    # Which of its shadows saw a record differs from record to record.
    order = generator.permuted(np.tile(np.arange(4)[:, None], n), axis=0)
    shuffled = [np.take_along_axis(array, order, axis=0) for array in (shadows, inside)]
    assert likelihood_ratio(own, *shuffled, mode="online", per_record=per_record) == pytest.approx(online)


def made_up(shift: float, shadows: int, n: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Confidences from known normals: easy and hard records, of which training raises each by ``shift`` deviations.

    Own, (n,); of the shadows, (shadows, n), and who is in; and who is a member, (n,).
    """
    generator = np.random.default_rng(1)
    difficulty = 5 * generator.normal(size=n)
    member = np.arange(n) % 2 == 0
    inside = generator.permuted(np.tile((np.arange(shadows) % 2 == 0)[:, None], n), axis=0)
    said = difficulty + shift * inside + generator.normal(size=(shadows, n))
    return difficulty + shift * member + generator.normal(size=n), said, inside, member


def test_with_known_normals_the_area_is_the_best_there_is() -> None:
    own, shadows, inside, member = made_up(shift=1.5, shadows=64)
    best = norm.cdf(1.5 / np.sqrt(2))
    score = likelihood_ratio(own, shadows, inside, mode="online")
    assert intervals.auroc(member, score) == pytest.approx(best, abs=0.015)
    assert intervals.auroc(member, likelihood_ratio(own, shadows, inside, mode="offline")) == pytest.approx(
        best, abs=0.015
    )
    # The confidence alone tells easy records from hard ones.
    assert intervals.auroc(member, own) < 0.6


def test_few_shadows_do_better_with_a_shared_variance() -> None:
    own, shadows, inside, member = made_up(shift=1.5, shadows=8)
    shared, single = (
        intervals.auroc(member, likelihood_ratio(own, shadows, inside, mode="online", per_record=alone))
        for alone in (False, True)
    )
    assert shared > single + 0.01
    assert intervals.auroc(member, likelihood_ratio(own, shadows, inside, mode="online")) > shared


def test_whose_membership_is_drawn_at_random_nobody_can_tell() -> None:
    own, shadows, inside, member = made_up(shift=1.5, shadows=16)
    drawn = np.random.default_rng(2).permutation(member)
    for mode in ("online", "offline"):
        assert intervals.auroc(
            drawn,
            likelihood_ratio(own, shadows, inside, mode=mode),  # type: ignore[arg-type]
        ) == pytest.approx(0.5, abs=0.02)


def test_shadows_that_all_agree_make_no_difference_telling() -> None:
    same = np.zeros(6)
    ratio = likelihood_ratio(same, np.zeros((4, 6)), np.arange(4)[:, None] % 2 == np.zeros(6), mode="online")
    assert ratio.tolist() == [0.0] * 6


def test_every_record_is_in_for_half_of_the_shadows_and_classes_keep_their_shares(make: Make) -> None:
    y = np.arange(103) % 10 == 0
    subject = make(nn.Identity(), np.zeros((103, 2)), y, train=np.arange(50))
    order = np.random.default_rng(0).permutation(103)
    inside = pool_halves(subject, order, 8)
    assert (inside.sum(0) == 4).all()
    assert set(inside.sum(1)) <= {51, 52}
    assert set(inside[:, y[order]].sum(1)) <= {5, 6}
    assert len({shadow.tobytes() for shadow in inside}) == 8
    # Whoever lists the members first gets no other halves.
    straight = pool_halves(subject, np.arange(103), 8)
    assert (straight[:, order] == inside).all()


def test_a_patient_is_in_or_out_as_a_whole(make: Make) -> None:
    patients = np.random.default_rng(0).integers(30, size=200)
    subject = make(nn.Identity(), np.zeros((200, 2)), patients % 2, groups=patients, train=np.arange(100))
    inside = pool_halves(subject, np.arange(200), 6)
    assert (inside.sum(0) == 3).all()
    for patient in range(30):
        own = inside[:, patients == patient]
        assert (own == own[:, :1]).all()
    assert 10 <= len(np.unique(patients[inside[0]])) <= 20


def test_workers_change_nothing_and_what_they_are_sent_travels(pool: Callable[..., Subject], one: One) -> None:
    subject = pool(np.arange(MEMBERS), steps=5)
    asked = LiRA(shadows=4, draws=50)
    here, there = asked.measure(subject), asked.measure(replace(subject, executor=Elsewhere()))
    # NaN is no equal of itself: as text.
    assert [str(finding) for finding in here] == [str(finding) for finding in there]


def test_every_shadow_has_draws_of_its_own(pool: Callable[..., Subject]) -> None:
    subject, names = pool(np.arange(MEMBERS), steps=0), []

    def train(rows: np.ndarray, name: str, recipe: Recipe | None = None) -> nn.Module:
        names.append(name)
        assert len(rows) == (MEMBERS + OTHERS) // 2
        return subject.model

    LiRA(shadows=6, draws=50).measure(replace(subject, train=train))
    assert len(set(names)) == 6
    assert all(names), "without a name the draws would be the target's own"


def test_a_lost_shadow_is_an_error_that_names_it(pool: Callable[..., Subject]) -> None:
    class Deadly(LocalExecutor):
        def map(self, fn: Any, items: Any, shared: Any) -> Iterator[Outcome]:
            yield Outcome(index=2, error="its worker died 2 times")

    with pytest.raises(RuntimeError, match="shadow model 3 of 4: its worker died"):
        LiRA(shadows=4).measure(pool(np.arange(MEMBERS), steps=0, executor=Deadly()))


def test_the_most_exposed_are_members_by_their_position(
    make: Make, people: tuple[np.ndarray, np.ndarray], one: One
) -> None:
    x, y = (column[:300] for column in people)
    members = np.random.default_rng(3).permutation(300)[:100]
    train = Learner(x, y)
    subject = make(train(members, "target"), x, y, train=members, log=LOG)
    exposed = one(rows(LiRA(shadows=4, draws=50).measure(replace(subject, train=train))), "lira_exposed")
    positions, scores = exposed.conditions["records"], exposed.conditions["scores"]
    assert len(set(positions)) == len(scores) == 10
    assert set(positions) <= set(members.tolist())
    assert scores == sorted(scores, reverse=True)
    assert exposed.value == pytest.approx(scores[0], abs=1e-4)
    assert (exposed.n, exposed.unit) == (100, "log-likelihood ratio")


def test_shadows_that_are_unlike_the_model_are_told(pool: Callable[..., Subject]) -> None:
    @dataclass(frozen=True)
    class Unlike:
        """Shadows whose confidence knows nothing but of whom the target is sure."""

        target: nn.Module

        def __call__(self, rows: np.ndarray, name: str, recipe: Recipe | None = None) -> nn.Module:
            return nn.Sequential(self.target, nn.Linear(2, 2, bias=False)).eval()

    subject = pool(np.arange(MEMBERS))
    found = LiRA(shadows=4, draws=50).measure(replace(subject, train=Unlike(subject.model)))
    (check,) = [one for one in found if isinstance(one, Check)]
    assert (check.verdict, check.concerns) == ("warn", "lira_tpr")
    assert "it may leak more than LiRA sees" in check.message


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"log": None}, "the training records of this model are not known"), ({"train": None}, "nothing can be trained")],
)
def test_without_what_it_takes_no_row_is_left_out(pool: Callable[..., Subject], settings: Any, why: str) -> None:
    found = LiRA(shadows=4).measure(replace(pool(np.arange(0), steps=0), **settings))
    assert [m.name for m in rows(found)] == ["lira_auc", *["lira_tpr"] * 3, "lira_exposed"]
    assert all(m.status == "not_applicable" and why in m.warnings[0] for m in rows(found))


def test_a_shadow_that_answers_nan_leaves_no_figure(pool: Callable[..., Subject]) -> None:
    def broken(rows: np.ndarray, name: str, recipe: Recipe | None = None) -> nn.Module:
        model = nn.Linear(100, 2)
        nn.init.constant_(model.bias, torch.nan)
        return model

    found = LiRA(shadows=4).measure(pool(np.arange(0), steps=0, train=broken))
    assert len(rows(found)) == len(found) == 5
    assert all(m.status == "not_applicable" and "answers NaN" in m.warnings[0] for m in rows(found))


def test_what_shadows_cannot_tell_stands_beside_the_figures(
    make: Make, people: tuple[np.ndarray, np.ndarray], one: One
) -> None:
    x, y = (column[:100] for column in people)
    train = Learner(x, y, steps=2)
    settings = {"train": np.arange(50), "log": LOG}
    subject = make(train(np.arange(50), "target"), x, y, recipe=Recipe(federation=Federation(clients=2)), **settings)
    found = LiRA(shadows=4, draws=50).measure(replace(subject, train=train))
    for row in (one(rows(found), "lira_auc"), one(rows(found), "lira_tpr", false_positive_rate=0.2)):
        assert [warning.split(":")[0] for warning in row.warnings] == [
            "the shadows were trained on all their records in one place, not at the recipe's clients",
        ]
        assert (row.conditions["members"], row.conditions["shadows_trained_on"]) == (50, 50)


@pytest.mark.parametrize("shadows", [2, 5])
def test_shadows_come_in_pairs(shadows: int) -> None:
    with pytest.raises(SpecError, match="shadows"):
        build("evaluation", {"name": "lira", "shadows": shadows})


def test_what_it_costs_is_known_before() -> None:
    assert "16 more trainings of every recipe" in LiRA().forecast(100)


def test_a_study_asks_it_of_plain_and_private_recipes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x, y = generator.uniform(size=(240, 5)).astype(np.float32), np.arange(240) % 2
    np.savez(tmp_path / "made.npz", x=x, y=y)
    training = {"epochs": 2, "batch_size": 32}
    cohort = {
        "dataset": {"name": "arrays", "path": str(tmp_path / "made.npz"), "low": 0, "high": 1},
        "model": {"name": "mlp", "hidden": [4]},
        "evaluations": [{"name": "lira", "shadows": 4, "draws": 50}],
        "recipes": {"standard": {"training": training}, "private": {"privacy": {"epsilon": 8}, "training": training}},
    }
    study = build_study({"name": "made", "split": {"folds": 2}, "cohorts": {"made": cohort}}, "made.yaml")
    datasets = load_datasets(study)
    for trial in plan(study, datasets)[:2]:
        record = run_trial(trial, LocalExecutor(), datasets["made"])
        assert not record.error
        rates = {m.conditions["false_positive_rate"]: m for m in record.measurements if m.name == "lira_tpr"}
        assert {rate for rate, m in rates.items() if m.status == "measured"} == {0.5, 0.2, 0.1}
        assert {rate for rate, m in rates.items() if m.status == "not_applicable"} == {0.01, 0.001}
        assert [m.n for m in record.measurements if m.name == "lira_auc"] == [102 + 120]


def grouped(make: Make, people: tuple[np.ndarray, np.ndarray], **settings: Any) -> Subject:
    """A subject of 120 records of 60 patients, two each, half of them members."""
    x, y = (column[:120] for column in people)
    train = Learner(x, y)
    about = {"train": np.arange(60), "log": LOG, "groups": np.arange(120) // 2, **settings}
    return replace(make(train(np.arange(60), "target"), x, y, **about), train=train)


@pytest.mark.parametrize("recipe", [Recipe(privacy=Privacy(epsilon=4.0)), Recipe()], ids=["private", "plain"])
def test_where_records_have_patients_a_patients_records_are_judged_together(
    make: Make, people: tuple[np.ndarray, np.ndarray], one: One, recipe: Recipe
) -> None:
    subject = grouped(make, people, recipe=recipe)
    joined = MembershipUnits.of(subject, Pool.of(subject))
    assert (joined.unit, len(joined.pool.members), len(joined.pool.others)) == ("patient", 30, 30)
    assert joined.total(np.arange(120.0)).tolist() == [4.0 * k + 1 for k in range(60)]
    found = rows(LiRA(shadows=4, draws=50).measure(subject))
    area, exposed = one(found, "lira_auc"), one(found, "lira_exposed")
    assert (area.n, area.conditions["unit_of_members"]) == (60, "patient")
    assert (area.conditions["members"], area.conditions["non_members"]) == (30, 30)
    assert set(exposed.conditions["records"]) <= set(range(0, 60, 2))


def test_where_records_are_protected_no_patient_is_on_both_sides_and_it_is_said(
    make: Make, people: tuple[np.ndarray, np.ndarray], one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay.evaluations.units.protected_unit", lambda privacy, groups: "record")
    subject = grouped(make, people, recipe=Recipe())
    area = one(rows(LiRA(shadows=4, draws=50).measure(subject)), "lira_auc")
    assert (area.n, area.conditions["unit_of_members"]) == (120, "record")
    assert "a patient's records are in or out together" in area.warnings[0]
    assert (pool_halves(subject, np.arange(120), 4).reshape(4, 60, 2).std(2) == 0).all()


class Level(nn.Module):
    """Answers by one pixel of an image: a mirrored one is answered otherwise."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value = x[:, 0, 0, 0]
        return torch.stack([torch.zeros_like(value), value], 1)


def test_the_model_is_asked_of_records_as_the_recipe_augments_them(make: Make) -> None:
    x = np.zeros((40, 1, 4, 4), np.float32)
    x[:, 0, 0, 0], x[:, 0, 0, 3] = 3.0, 1.0
    y = np.arange(40) % 2
    flips = Recipe(data=({"name": "flip"},))
    subject = make(Level(), x, y, train=np.arange(20), recipe=flips, about={"modality": "image"})

    def margins(subject: Subject, queries: int) -> np.ndarray:
        return asked(subject, np.arange(40), queries=queries) * (2 * y - 1)

    assert set(margins(subject, 1).tolist()) == {3.0}
    once, again = (margins(subject, 200) for _ in range(2))
    assert once.tolist() == again.tolist()
    assert once.mean() == pytest.approx(2.0, abs=0.05)
    assert len(set(once.tolist())) > 5
    assert set(margins(replace(subject, recipe=Recipe()), 200).tolist()) == {3.0}
