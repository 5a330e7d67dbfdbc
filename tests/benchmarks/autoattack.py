"""The default worst case at every radius of the grid, and AutoAttack's at each.

Ours is what the robustness evaluation runs where nothing is asked for: all attacks that enter its worst case, with the
settings of the studies. The peer is the authors' standard set on torchattacks' attacks, 100 steps and 5,000 queries
each: APGD on cross-entropy, targeted APGD, targeted FAB, Square, each on the records that withstood those before. The
loss DLR needs three classes and its targeted form four, so on two classes the margin takes its place; the peer's Square
takes images alone, so on tables ours does, with as many queries. Models are those of the quickstart and of the X-rays.

Each model and radius is a process of its own, as many at once as there are processors, and both attackers run in it on
one thread, one after the other: times are processor seconds. Both figures of a radius are of the same records; the bar
of accuracy is on the records of all folds, pooled.
"""

import copy
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchattacks
from torch import Tensor, nn

from assay.attacks.apgd import APGD
from assay.attacks.base import Attack
from assay.attacks.fab import FAB
from assay.attacks.square import Square
from assay.data.base import Dataset
from assay.errors import DataError
from assay.evaluations.attack_runs import AttackTarget, worst_case
from assay.evaluations.robustness import Robustness
from assay.evaluations.subject import Subject
from assay.executors import LocalExecutor
from assay.study.plan import load_datasets, plan
from assay.study.reading import read_study
from assay.study.spec import Study
from assay.study.training import network_of, prepare_records, train_trial
from assay.study.trial import Trial
from assay.threats import Threat, radius_text

FOLDS = 5
MODELS = (
    ("quickstart", "digits", ("standard", "pgd", "interval_bounds", "dp_eps_8")),
    ("pneumonia", "pneumoniamnist", ("standard", "pgd")),
    ("quickstart", "wdbc", ()),
)
"""Study, cohort and recipes; all of its recipes where none is named. Long ones first."""
STEPS, QUERIES = 100, 5000
ALLOWED = 0.5
"""Points by which our worst case may lie above AutoAttack's, at any radius."""
SHARE = 3.0
"""How many times as long AutoAttack must take at one radius as our whole grid, at least."""


class Case(NamedTuple):
    """One model and one radius: what one process does."""

    study: str
    cohort: str
    recipe: str
    fold: int
    place: int
    """Of the radius in the grid."""


class Outcome(NamedTuple):
    """Which records either fools at the radius, (n,) bool, and the processor seconds of both."""

    radius: float
    ours: np.ndarray
    theirs: np.ndarray
    seconds: float
    """Of our whole grid."""
    their_seconds: float
    """Of AutoAttack at this one radius."""


def measure() -> dict[str, Any]:
    """Worst cases of both by model and radius, their times, and the ratios."""
    found: dict[str, dict[str, Any]] = {}
    cases: list[Case] = []
    for study, cohort, recipes in MODELS:
        try:
            cases += _cases(study, cohort, recipes)
        except DataError as error:
            found[cohort] = {"absent": str(error)}
    outcomes: dict[str, list[Outcome]] = {}
    # A fresh process for each: PyTorch's threads do not survive a fork.
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for case, outcome in zip(cases, pool.map(compared, cases), strict=True):
            outcomes.setdefault(f"{case.cohort} {case.recipe}", []).append(outcome)
    models = {name: pooled(of_model) for name, of_model in outcomes.items()}
    return {
        "unit": "worst-case accuracy in %, processor seconds of one thread",
        "processor": _processor(),
        "torchattacks": torchattacks.__version__,
        **found,
        **models,
        "ratio": {
            **{f"{name} no weaker": float(one["greatest_excess_points"] <= ALLOWED) for name, one in models.items()},
            **{f"{name} speed-up": one["speed_up"] for name, one in models.items()},
        },
        "bar": {**{f"{name} no weaker": 1.0 for name in models}, **{f"{name} speed-up": SHARE for name in models}},
    }


def compared(case: Case) -> Outcome:
    """Train the model as its study trains it, and attack it with both."""
    torch.set_num_threads(1)
    subject, robustness = _subject(case)
    target = AttackTarget.of(subject, norm="linf", epsilons=robustness.epsilons, records=robustness.records)
    radius = target.radii[case.place]
    worst, seconds = _timed(lambda: _default(robustness, target))
    fooled, their_seconds = _timed(lambda: _autoattack(target, radius))
    return Outcome(radius, worst[radius].numpy(), fooled.numpy(), seconds, their_seconds)


def pooled(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Both worst cases of one model by radius, over the records of all folds, and what they took."""
    by_radius: dict[float, list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda one: one.radius):
        by_radius.setdefault(outcome.radius, []).append(outcome)
    rows = {}
    for radius, own in by_radius.items():
        ours, theirs = np.concatenate([one.ours for one in own]), np.concatenate([one.theirs for one in own])
        rows[radius_text(radius)] = {
            "records": len(ours),
            "ours": round(100 * float((~ours).mean()), 2),
            "autoattack": round(100 * float((~theirs).mean()), 2),
            "fooled_by_autoattack_alone": int((theirs & ~ours).sum()),
            "fooled_by_ours_alone": int((ours & ~theirs).sum()),
        }
    slowest = max(by_radius.values(), key=lambda own: sum(one.their_seconds for one in own))
    seconds = {"ours": sum(one.seconds for one in slowest), "autoattack": sum(one.their_seconds for one in slowest)}
    return {
        "radii": rows,
        "seconds of our whole grid and of AutoAttack's slowest radius": {k: round(v, 2) for k, v in seconds.items()},
        "greatest_excess_points": round(max(one["ours"] - one["autoattack"] for one in rows.values()), 2),
        "speed_up": round(seconds["autoattack"] / seconds["ours"], 2),
    }


def _processor() -> str:
    """Name of the processor, as Linux gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _study(name: str, cohort: str) -> Study:
    """A study with one of its cohorts."""
    study = read_study(name, folder=Path(__file__).parents[2] / "jobs" / "studies")
    return study.model_copy(update={"cohorts": {cohort: study.cohorts[cohort]}})


def _cases(name: str, cohort: str, recipes: Sequence[str]) -> list[Case]:
    """Models of a study's first folds, at each radius of its grid but 0.

    Raises:
        DataError: the data are absent.
    """
    study = _study(name, cohort)
    datasets = load_datasets(study)
    return [
        Case(name, cohort, trial.recipe_name, trial.fold, place)
        for trial in plan(study, datasets)
        if trial.fold < FOLDS and not trial.repeat and trial.recipe_name in (recipes or study.cohorts[cohort].recipes)
        for place in range(1, 1 + len({*(_asked(trial).epsilons or datasets[cohort].epsilons)} - {0.0}))
    ]


def _asked(trial: Trial) -> Robustness:
    """How its study attacks a model."""
    return next(one for one in trial.evaluations if isinstance(one, Robustness))


def _subject(case: Case) -> tuple[Subject, Robustness]:
    """The trained model, and how its study attacks it."""
    study = _study(case.study, case.cohort)
    datasets = load_datasets(study)
    trial = next(t for t in plan(study, datasets) if (t.recipe_name, t.fold, t.repeat) == (case.recipe, case.fold, 0))
    trained = train_trial(trial, LocalExecutor(), datasets[case.cohort])
    dataset, parts = prepare_records(trial, datasets[case.cohort])
    model, log = trained.open(network_of(trial, dataset))
    subject = Subject(model=model, dataset=dataset, split=parts, recipe=trial.recipe, log=log, seed=trial.trial_seed)
    return subject, _asked(trial)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What a piece of work gives, and its processor seconds."""
    began = time.process_time()
    found = work()
    return found, time.process_time() - began


def _default(asked: Robustness, target: AttackTarget) -> dict[float, Tensor]:
    """By radius, which records the attacks of the default worst case fool."""
    runs = asked.runs_of_worst_case(target)
    curves = target.curves(runs)
    curves |= asked.on_survivors(target, runs, curves)
    return worst_case(list(curves.values()))


def _autoattack(target: AttackTarget, epsilon: float) -> Tensor:
    """Which records the authors' standard set fools at one radius, (n,)."""
    model = copy.deepcopy(target.subject.model).requires_grad_(False)
    threat = target.base.at(epsilon)
    with torch.no_grad():
        fooled = target.base.goal(model(target.x), target.y)
    of_set = _on_images if target.x.dim() == 4 else _on_a_table
    for attack in of_set(model, threat, target.subject.dataset):
        rows = (~fooled).nonzero()[:, 0]
        if not len(rows):
            break
        fooled[rows] = attack(target.x[rows], target.y[rows])
    return fooled


Proposer = Callable[[Tensor, Tensor], Tensor]
"""From records and labels to which of them it fools."""


def _on_images(model: nn.Module, threat: Threat, dataset: Dataset) -> Iterator[Proposer]:
    """The peer's attacks on images between 0 and 1."""
    assert float(dataset.low.min()) == 0.0 and float(dataset.high.max()) == 1.0
    eps, classes = threat.epsilon, dataset.classes
    yield _judged(model, threat, torchattacks.APGD(model, eps=eps, steps=STEPS, loss="ce", seed=0))
    if classes >= 4:
        yield _judged(model, threat, torchattacks.APGDT(model, eps=eps, steps=STEPS, n_classes=classes, seed=0))
    else:
        yield lambda x, y: APGD(loss="dlr", steps=STEPS).run(model, x, y, threat, seed=0).fooled
    fab = torchattacks.FAB(model, eps=eps, steps=STEPS, multi_targeted=True, n_classes=classes, seed=0)
    yield _judged(model, threat, fab)
    yield _judged(model, threat, torchattacks.Square(model, eps=eps, n_queries=QUERIES, seed=0))


def _judged(model: nn.Module, threat: Threat, attack: Callable[[Tensor, Tensor], Tensor]) -> Proposer:
    """What a peer's attack fools, judged as all others are."""

    def fooled(x: Tensor, y: Tensor) -> Tensor:
        moved = threat.project(attack(x, y).detach(), x)
        with torch.no_grad():
            return threat.goal(model(moved), y)

    return fooled


def _on_a_table(model: nn.Module, threat: Threat, dataset: Dataset) -> Iterator[Proposer]:
    """The same by our wrappers of the peer's, which take records with a range for each feature; two classes."""
    assert dataset.classes == 2

    def fooled(attack: Attack) -> Proposer:
        def by(x: Tensor, y: Tensor) -> Tensor:
            found = attack.run(model, x, y, threat.at(float("inf")) if attack.minimal else threat, seed=0)
            return found.fooled & (found.distance <= threat.epsilon)

        return by

    yield fooled(APGD(steps=STEPS))
    yield fooled(APGD(loss="dlr", steps=STEPS))
    yield fooled(FAB(steps=STEPS))
    yield fooled(Square(queries=QUERIES))
