"""The default worst case at every radius of the grid, and AutoAttack's at each.

Ours is what the robustness evaluation runs where nothing is asked for: all attacks that enter its worst case, with the
settings of the studies. The peer is the authors' standard set on torchattacks' attacks, 100 steps and 5,000 queries
each: APGD on cross-entropy, targeted APGD, targeted FAB, Square, each on the records that withstood those before. The
loss DLR needs three classes and its targeted form four, so on two classes the margin takes its place; the peer's Square
takes images alone, so on tables ours does, with as many queries. Models are those of the quickstart and of the X-rays.

Times are of the processor, of one thread. Both figures of a radius are of the same records; the bar of accuracy is on
the records of all folds that are run, pooled.
"""

import copy
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchattacks
from torch import Tensor, nn

from assay.attacks.apgd import APGD
from assay.attacks.base import Attack
from assay.attacks.fab import FAB
from assay.attacks.losses import misclassified
from assay.attacks.square import Square
from assay.data.base import Dataset
from assay.errors import DataError
from assay.evaluations.arena import Arena, worst_case
from assay.evaluations.base import Subject
from assay.evaluations.robustness import Robustness
from assay.executors import LocalExecutor
from assay.study.plan import load_datasets, plan
from assay.study.spec import read_study
from assay.study.training import network_of, prepared, train_trial
from assay.study.trial import Trial
from assay.threats import Threat, radius_text

ROUNDS = 1
"""Of each timing; the median counts."""
FOLDS = 2
MODELS = (
    ("quickstart", "digits", ("standard", "pgd", "interval_bounds", "dp_eps_8")),
    ("quickstart", "wdbc", ("standard", "pgd", "dp_eps_0_1", "poisoned_labels")),
    ("pneumonia", "pneumoniamnist", ("standard", "pgd")),
)
"""Study, cohort and recipes."""
STEPS, QUERIES = 100, 5000
ALLOWED = 0.5
"""Points by which our worst case may lie above AutoAttack's, at any radius."""
SHARE = 3.0
"""How many times as long AutoAttack must take at one radius as our whole grid, at least."""


class Case(NamedTuple):
    """A trained model and what it is attacked on."""

    trial: Trial
    subject: Subject
    robustness: Robustness


def measure() -> dict[str, Any]:
    """Worst cases of both by model and radius, their times, and the ratios."""
    torch.set_num_threads(1)
    found = {}
    for study, cohort, recipes in MODELS:
        try:
            cases = list(_cases(study, cohort, recipes))
        except DataError as error:
            found[cohort] = {"absent": str(error)}
            continue
        for recipe in recipes:
            own = [case for case in cases if case.trial.recipe_name == recipe]
            found[f"{cohort} {recipe}"] = _compared(own)
    measured = {name: one for name, one in found.items() if "absent" not in one}
    ratio: dict[str, float] = {}
    bar: dict[str, float] = {}
    for name, one in measured.items():
        ratio |= {
            f"{name} no weaker": float(one["greatest_excess_points"] <= ALLOWED),
            f"{name} speed-up": one["speed_up"],
        }
        bar |= {f"{name} no weaker": 1.0, f"{name} speed-up": SHARE}
    return {
        "unit": "worst-case accuracy in %, processor seconds of one thread",
        "processor": _processor(),
        "torchattacks": torchattacks.__version__,
        **found,
        "ratio": ratio,
        "bar": bar,
    }


def _processor() -> str:
    """Name of the processor, as Linux gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _cases(name: str, cohort: str, recipes: tuple[str, ...]) -> Iterator[Case]:
    """Models of a study's first folds, trained as the study trains them."""
    study = read_study(name, folder=Path(__file__).parents[2] / "jobs" / "studies")
    study = study.model_copy(update={"cohorts": {cohort: study.cohorts[cohort]}})
    datasets = load_datasets(study)
    for trial in plan(study, datasets):
        if trial.recipe_name not in recipes or trial.fold >= FOLDS or trial.repeat:
            continue
        trained = train_trial(trial, LocalExecutor(), datasets[cohort])
        dataset, parts = prepared(trial, datasets[cohort])
        model, log = trained.open(network_of(trial, dataset))
        subject = Subject(
            model=model, dataset=dataset, split=parts, recipe=trial.recipe, log=log, seed=trial.trial_seed
        )
        (asked,) = (one for one in trial.evaluations if isinstance(one, Robustness))
        yield Case(trial, subject, asked)


def _compared(cases: list[Case]) -> dict[str, Any]:
    """Both worst cases over the records of all cases, and what they took."""
    ours: dict[float, list[Tensor]] = {}
    theirs: dict[float, list[Tensor]] = {}
    seconds: dict[str, float] = {"ours, whole grid": 0.0}
    for case in cases:
        arena = Arena.of(case.subject, norm="linf", epsilons=case.robustness.epsilons, records=case.robustness.records)
        # They alternate by model: our whole grid, then the peer at each radius.
        worst, took = _timed(lambda arena=arena, case=case: _default(case.robustness, arena))
        seconds["ours, whole grid"] += took
        for epsilon in arena.radii[1:]:
            fooled, took = _timed(lambda arena=arena, epsilon=epsilon: _autoattack(arena, epsilon))
            name = f"autoattack at {radius_text(epsilon)}"
            seconds[name] = seconds.get(name, 0.0) + took
            ours.setdefault(epsilon, []).append(worst[epsilon])
            theirs.setdefault(epsilon, []).append(fooled)
    rows = {
        radius_text(epsilon): {
            "ours": _accuracy(ours[epsilon]),
            "autoattack": _accuracy(theirs[epsilon]),
            "fooled_by_autoattack_alone": int((torch.cat(theirs[epsilon]) & ~torch.cat(ours[epsilon])).sum()),
            "fooled_by_ours_alone": int((torch.cat(ours[epsilon]) & ~torch.cat(theirs[epsilon])).sum()),
        }
        for epsilon in ours
    }
    slowest = max(value for name, value in seconds.items() if name != "ours, whole grid")
    return {
        "records": sum(len(fooled) for fooled in next(iter(ours.values()))),
        "radii": rows,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "greatest_excess_points": round(max(one["ours"] - one["autoattack"] for one in rows.values()), 2),
        "speed_up": round(slowest / seconds["ours, whole grid"], 2),
    }


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What a piece of work gives, and its processor seconds: the median of the rounds."""
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        found = work()
        taken.append(time.process_time() - began)
    return found, sorted(taken)[len(taken) // 2]


def _accuracy(fooled: list[Tensor]) -> float:
    return round(100 * float((~torch.cat(fooled)).double().mean()), 2)


def _default(asked: Robustness, arena: Arena) -> dict[float, Tensor]:
    """By radius, which records the attacks of the default worst case fool."""
    strikes = asked.strikes_of_worst_case(arena)
    curves = arena.curves(strikes)
    curves |= asked.on_survivors(arena, strikes, curves)
    return worst_case(list(curves.values()))


def _autoattack(arena: Arena, epsilon: float) -> Tensor:
    """Which records the authors' standard set fools at one radius, (n,)."""
    model = copy.deepcopy(arena.subject.model).requires_grad_(False)
    threat = arena.base.at(epsilon)
    with torch.no_grad():
        fooled = misclassified(model(arena.x), arena.y)
    of_set = _on_images if arena.x.dim() == 4 else _on_a_table
    for attack in of_set(model, threat, arena.subject.dataset):
        rows = (~fooled).nonzero()[:, 0]
        if not len(rows):
            break
        fooled[rows] = attack(arena.x[rows], arena.y[rows])
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
            return misclassified(model(moved), y)

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
