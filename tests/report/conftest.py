"""Results made up to order: what a page shows of them is then known."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay.report.scorecard import Scorecard, scorecard
from assay.results import NOT_RELEASABLE, Check, Flag, Measurement, TrialRecord, Verdict, not_applicable
from assay.store.folder import Store
from assay.study.reading import build_study
from assay.study.run import write_study
from assay.study.spec import Study

RADII = (0.0, 0.1, 0.3, 0.5)
RECIPES: dict[str, Any] = {
    "standard": {},
    "private": {"privacy": {"epsilon": 8}},
    "fed": {"federation": {"clients": 3}},
}
# Accuracy of each recipe in its first fold; every further fold adds a hundredth.
ACCURACY = {"standard": 0.90, "private": 0.80, "fed": 0.85}


SEEDED = Flag(verdict="warn", message="experiment, not releasable: the noise is seeded", rule=NOT_RELEASABLE)


MakeStudy = Callable[..., Study]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "patients.npz"
    generator = np.random.default_rng(0)
    np.savez(path, x=generator.uniform(0, 1, size=(60, 4)).astype(np.float32), y=np.arange(60) % 2)
    return path


@pytest.fixture(scope="session")
def study(data: Path) -> MakeStudy:
    """A study of three recipes over three folds; recipes, the cohort's settings and the study's may be given."""

    def build(
        recipes: Mapping[str, Any] | None = None, cohort: Mapping[str, Any] | None = None, **settings: Any
    ) -> Study:
        made = {
            "dataset": {"name": "arrays", "path": str(data), "low": 0, "high": 1, "epsilons": RADII},
            "recipes": dict(recipes or RECIPES),
            "reference_epsilon": 0.3,
            **(cohort or {}),
        }
        defaults = {"name": "made", "title": "Made up", "split": {"folds": 3}, "cohorts": {"made": made}}
        return build_study({**defaults, **settings}, "made.yaml")

    return build


def check(rule: str, concerns: str, verdict: Verdict, figure: float) -> Measurement:
    message = f"{rule} found {figure:g}"
    return Check(rule=rule, concerns=concerns, verdict=verdict, figure=figure, message=message).measurement()


def measurements(recipe: str, fold: int, base: float) -> Iterator[Measurement]:
    """What one trial of that recipe found; ``base`` is its accuracy."""
    accuracy = base + fold / 100

    def measured(name: str, value: float, unit: str = "fraction", **conditions: Any) -> Measurement:
        return Measurement(
            name=name, value=value, unit=unit, n=20, low=value - 0.1, high=value + 0.1, conditions=conditions
        )

    yield measured("accuracy", accuracy)
    for name in ("auroc", "sensitivity", "specificity"):
        yield measured(name, min(1.0, accuracy + 0.05))
    yield measured("calibration_error", 0.02 + fold / 50)
    for epsilon in RADII:
        for attack in ("fgsm", "pgd_cross_entropy", "pgd_margin"):
            yield measured("robust_accuracy", max(0.0, accuracy - epsilon), attack=attack, epsilon=epsilon)
        yield measured("worst_case_accuracy", max(0.0, accuracy - 1.5 * epsilon), epsilon=epsilon)
    yield measured("carlini_wagner_median_distance", 0.5 + fold / 10)
    private = recipe.startswith("private")
    for name in ("epsilon", "epsilon_pld"):
        yield (
            measured(name, 7.9, "epsilon").flag(SEEDED)
            if private
            else not_applicable(name, "the recipe is not private (ε = ∞)", reason="not_private")
        )
    yield measured("membership_tpr", 0.12, false_positive_rate=0.1)
    yield Measurement(
        name="membership_tpr",
        status="not_applicable",
        conditions={"false_positive_rate": 0.01},
        warnings=("too few non-members",),
    )
    yield from _explained(measured)
    yield measured("training_seconds", 1.0 if recipe == "standard" else 2.0 + fold / 10, "seconds")
    if recipe == "fed":
        for client in (1, 2, 3):
            yield measured("client_accuracy", accuracy - client / 50, client=client)
            yield measured("local_only_accuracy", accuracy - client / 20, client=client)
        yield measured("centralised_accuracy", accuracy + 0.02)
    yield check("clean_at_zero", "worst_case_accuracy", "pass", 0.0)
    yield check("stronger_attack", "worst_case_accuracy", "warn" if private and fold else "pass", 0.02 * fold)
    yield check("zero_gradients", "worst_case_accuracy", "fail" if recipe == "fed" and fold == 1 else "pass", 0.2)


# The place of each method's maps between the strongest control and the oracle, and its area.
MAPS = {"integrated_gradients": (0.7, 0.8), "deep_shap": (0.5, 0.6), "saliency": (-0.1, 0.1)}


def _explained(measured: Callable[..., Measurement]) -> Iterator[Measurement]:
    """What the evaluation of explanations would have found of three methods."""
    for place, (method, (faithful, area)) in enumerate(MAPS.items()):
        about = {"method": method, "reference": "the mean record"}
        for name, shift in (("panel", 0.0), ("donor", 0.1), ("marginal", -0.1)):
            yield measured("area_between", area + shift, "share", **about, replacement=name)
        yield measured("insertion", area / 2, "share", **about, replacement="panel")
        yield measured("insertion_gain", area / 4, "share", **about, replacement="panel", against="random order")
        for control, value in (("shuffled", 0.05), ("other_record", 0.2)):
            yield measured("control_area", value, "share", **about, control=control)
        judged = {**about, "endpoint": "area_between", "control": "other_record"}
        yield measured("faithfulness", faithful, "place", **judged)
        yield Measurement(name="faithfulness_p", value=0.001 if place < 2 else 0.6, unit="p-value", conditions=judged)
    yield measured("oracle_area", 1.0, "share", replacement="panel")
    yield measured("panel_agreement", 1.0, "share of the pairs of methods")
    of_map = {"method": "deep_shap", "reference": "the mean record"}
    yield measured("infidelity", 0.9, "", **of_map)
    yield measured("infidelity", 0.1, "", **of_map, control="other_record")
    yield measured("sparseness", 0.6, "", method="deep_shap", reference="the mean record")


def fail_safe(recipe: str, base: float) -> Iterator[Measurement]:
    """What the evaluations of shift and of failing safe would have found."""

    def measured(name: str, value: float, unit: str = "fraction", **conditions: Any) -> Measurement:
        return Measurement(
            name=name, value=value, unit=unit, n=20, low=value - 0.05, high=value + 0.05, conditions=conditions
        )

    yield measured("f1", base - 0.1, average="macro")
    for corruption in ("blur", "jpeg", "noise", "contrast"):
        for severity in (1, 2, 3):
            yield measured("shifted_accuracy", base - severity / 20, corruption=corruption, severity=severity)
    yield measured("mean_corruption_error", 1.1 - base)
    for coverage in (1.0, 0.5, 0.25):
        yield measured("selective_risk", (1 - base) * coverage, coverage=coverage)
    yield measured("aurc", (1 - base) / 2)
    if recipe == "fed":
        for name in ("abstention_rate", "risk_after_abstention"):
            yield Measurement(name=name, status="abstained", conditions={"risk": 0.05}, warnings=("no threshold",))
    else:
        yield measured("abstention_rate", 0.3, risk=0.05)
        yield measured("risk_after_abstention", 0.03, risk=0.05)
    for method in ("LAC", "APS"):
        for alpha in (0.1, 0.05):
            about = {"method": method, "alpha": alpha}
            yield measured("conformal_coverage", 1 - alpha + 0.01, **about)
            yield measured("conformal_set_size", 1.5, "classes", **about)
    for score in ("max softmax", "energy"):
        for against in ("noise, severity 5", "shuffled pixels"):
            yield measured("ood_auroc", 0.8, "AUROC", score=score, against=against)


@pytest.fixture(scope="session")
def trial() -> Callable[..., TrialRecord]:
    """``trial("private", 2)``, with ``with_one_recipe`` some of its measurements, or an ``error`` instead of any."""

    def make(
        recipe: str, fold: int, *, base: float | None = None, error: str = "", only: Any = None, **settings: Any
    ) -> TrialRecord:
        accuracy = ACCURACY.get(recipe, 0.7) if base is None else base
        found = tuple(m for m in measurements(recipe, fold, accuracy) if only is None or m.name in only)
        defaults: dict[str, Any] = {
            "trial": f"{recipe}-{fold}".encode().hex(),
            "dataset": "patients",
            "model": "mlp",
            "repeat": 0,
            "seconds": 1.0,
            "measurements": () if error else found,
        }
        return TrialRecord(recipe=recipe, fold=fold, error=error, **{**defaults, **settings})

    return make


@pytest.fixture(scope="session")
def fill(trial: Callable[..., TrialRecord]) -> Callable[..., Store]:
    """Stores the given trials of a study in a folder, by default all of them; planned are all folds, or ``planned``."""

    def write(
        study: Study, folder: Path, records: list[TrialRecord] | None = None, planned: list[TrialRecord] | None = None
    ) -> Store:
        everything = planned or [
            trial(recipe, fold)
            for cohort in study.cohorts.values()
            for fold in range(study.split.folds)
            for recipe in cohort.recipes
        ]
        store = Store(str(folder))
        labels = {record.trial: f"{record.recipe} · fold {record.fold + 1}" for record in everything}
        write_study(study, store, labels, {"git_commit": "abc123", "gpus": 0})
        for record in everything if records is None else records:
            store.write(record)
        return store

    return write


@pytest.fixture
def frame(fill: Callable[..., Store], tmp_path: Path) -> Callable[..., pd.DataFrame]:
    """Rows of the given trials of a study."""
    return lambda study, records=None: fill(study, tmp_path / "results", records).frame()


@pytest.fixture(scope="session")
def whole(study: MakeStudy, fill: Callable[..., Store], tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store of the finished default study."""
    return fill(study(), tmp_path_factory.mktemp("whole"))


SEEDS = 4


@pytest.fixture(scope="session")
def of_seeds(trial: Callable[..., TrialRecord]) -> list[TrialRecord]:
    """Four seeds of each recipe on an official split, with everything that may be measured."""
    return [
        replace(
            made,
            trial=f"{recipe}-seed-{seed}".encode().hex(),
            repeat=seed,
            measurements=(*made.measurements, *fail_safe(recipe, ACCURACY[recipe] + seed / 100)),
            provenance={"asked": {"cohort": "made", "official": True}},
        )
        for recipe in RECIPES
        for seed in range(SEEDS)
        for made in [trial(recipe, 0, base=ACCURACY[recipe] + seed / 100)]
    ]


@pytest.fixture(scope="session")
def official(study: MakeStudy) -> Study:
    """The study that planned them: it need not name more than one fold."""
    return study(split={"folds": 1, "repeats": SEEDS})


@pytest.fixture(scope="session")
def seeds(
    official: Study, of_seeds: list[TrialRecord], fill: Callable[..., Store], tmp_path_factory: pytest.TempPathFactory
) -> Store:
    """The store of that study, finished."""
    return fill(official, tmp_path_factory.mktemp("seeds"), of_seeds, of_seeds)


ARMED: dict[str, Any] = {
    "standard": {},
    "pgd_weak": {"objective": {"name": "pgd", "epsilon": 0.1}},
    "pgd_strong": {"objective": {"name": "pgd", "epsilon": 0.3}},
    "backdoor_5": {"data": [{"name": "backdoor", "share": 0.05}]},
    "backdoor_10": {"data": [{"name": "backdoor", "share": 0.1}]},
    "cleaned_5": {"data": [{"name": "backdoor", "share": 0.05}, "spectral_signatures"]},
    "cleaned_10": {"data": [{"name": "backdoor", "share": 0.1}, "spectral_signatures"]},
    "cleaned_0": {"data": ["spectral_signatures"]},
    "collision": {"data": [{"name": "feature_collision", "epsilon": 0.1}]},
}
# What each attack takes away at radius 1, the strongest last.
ATTACKS = {
    **{"random_noise": 0.2, "fgsm": 0.9, "transfer": 0.5, "square": 1.0, "pgd_cross_entropy": 1.1, "pgd_margin": 1.2},
    **{"targeted_pgd": 1.25, "pgd_100x5": 1.3, "apgd_ce": 1.32, "apgd_dlr": 1.34, "fab": 1.36, "autoattack": 1.4},
}


def under_attack(recipe: str, fold: int, base: float) -> Iterator[Measurement]:
    """What evaluations of attacks, certificates and poison would have found; ``base`` is the accuracy."""

    def measured(name: str, value: float, unit: str = "fraction", **conditions: Any) -> Measurement:
        return Measurement(
            name=name, value=value, unit=unit, n=20, low=value - 0.1, high=value + 0.1, conditions=conditions
        )

    yield measured("accuracy", base)
    yield from _attacked(recipe, fold, base, measured)
    yield from _certified(recipe, base, measured)
    yield from _poisoned(recipe, base, measured)


def _attacked(recipe: str, fold: int, base: float, measured: Callable[..., Measurement]) -> Iterator[Measurement]:
    suspect = recipe == "pgd_weak" and fold > 0
    labels = [*ATTACKS, *(["pgd_straight_through"] if suspect else [])]
    for epsilon in RADII:
        about = {"epsilon": epsilon, "norm": "linf"}
        for attack, harm in ATTACKS.items():
            if attack == "transfer" and recipe == "collision":
                yield Measurement(
                    name="robust_accuracy",
                    status="not_applicable",
                    conditions={"attack": attack, **about},
                    warnings=("there is no surrogate",),
                )
            else:
                yield measured("robust_accuracy", max(0.0, base - harm * epsilon), attack=attack, **about)
        worst = max(0.0, base - 1.5 * epsilon)
        left = worst / 2 if suspect and epsilon else worst
        if suspect:
            yield measured("worst_case_before_adaptive", worst, attacks=[*ATTACKS], **about)
            yield measured("robust_accuracy", left, attack="pgd_straight_through", **about)
        yield measured("worst_case_accuracy", left, attacks=labels, **about)
    yield check("zero_gradients", "worst_case_accuracy", "fail" if suspect else "pass", 0.4)
    yield check("stronger_attack", "worst_case_accuracy", "warn" if recipe == "collision" else "pass", 0.02)
    yield measured("deepfool_median_distance", 0.4, "units", attack="deepfool", norm="l2")
    yield measured("fab_median_distance", 0.2, "units", attack="fab", norm="linf")
    yield measured("patch_accuracy", base - 0.3, attack="adversarial_patch", share=0.05)
    yield measured("patch_accuracy", base, attack="none", share=0.0)


def _certified(recipe: str, base: float, measured: Callable[..., Measurement]) -> Iterator[Measurement]:
    for epsilon in RADII[1:]:
        about = {"epsilon": epsilon, "norm": "linf", "method": "interval bounds"}
        if recipe == "standard":
            yield Measurement(
                name="certified_accuracy", status="not_applicable", conditions=about, warnings=("no bound is known",)
            )
        else:
            yield measured("certified_accuracy", max(0.0, base - 2 * epsilon), holds_for="this model", **about)
    if recipe != "pgd_strong":
        return
    for sigma in (0.25, 0.5):
        noise = {"sigma": sigma, "norm": "l2", "method": "randomised smoothing"}
        for epsilon in (0.5, 1.0):
            value = base - 0.3 * epsilon - sigma / 10
            yield measured("certified_accuracy", value, epsilon=epsilon, holds_for="the smoothed model", **noise)
            attacked = {"epsilon": epsilon, "attack": "pgd", **noise}
            yield measured("smoothed_robust_accuracy", value + 0.1, **attacked)
            yield measured("smoothed_abstention_under_attack", (sigma + epsilon) / 10, **attacked)
        yield measured("smoothed_accuracy", base - sigma / 10, **noise)
        yield measured("smoothed_abstention", sigma / 10, **noise)
        for quantile in (0.1, 0.5):
            yield measured("certified_radius", 4 * sigma * quantile, "units", quantile=quantile, **noise)


def _poisoned(recipe: str, base: float, measured: Callable[..., Measurement]) -> Iterator[Measurement]:
    kind, _, share = recipe.partition("_")
    if kind in ("backdoor", "cleaned") and share != "0":
        success = 0.95 if kind == "backdoor" else 0.2
        yield measured("backdoor_success", success, share=int(share) / 100, planted=True)
        yield measured("undefended_backdoor_success", 0.95)
        yield measured("backdoor_base_rate", 0.03)
        yield measured("tampered_share", int(share) / 100)
    else:
        yield Measurement(name="backdoor_success", status="not_applicable", warnings=("no backdoor is planted",))
    if kind == "cleaned":
        yield measured("removed_share", 0.15)
        yield measured("sanitation_precision", 0.6)
        yield measured("sanitation_precision", 0.1, treatment="another filter")
        yield measured("sanitation_recall", 0.9)
    if kind == "collision":
        yield measured("collision_success", 0.4)
        yield measured("collision_base_rate", 0.2)


@pytest.fixture(scope="session")
def armed(study: MakeStudy) -> Study:
    """A study of attacks, certificates and poison."""
    return study(ARMED)


@pytest.fixture(scope="session")
def arsenal(
    armed: Study,
    trial: Callable[..., TrialRecord],
    fill: Callable[..., Store],
    tmp_path_factory: pytest.TempPathFactory,
) -> Store:
    """The store of that study, finished."""
    records = [
        trial(recipe, fold, measurements=tuple(under_attack(recipe, fold, 0.9 - place / 50)))
        for place, recipe in enumerate(ARMED)
        for fold in range(3)
    ]
    return fill(armed, tmp_path_factory.mktemp("arsenal"), records, records)


@pytest.fixture(scope="session")
def card_of_arsenal(armed: Study, arsenal: Store) -> Scorecard:
    """Its scorecard."""
    return scorecard(armed, "made", arsenal.frame())


@pytest.fixture(scope="session")
def card_of_seeds(official: Study, seeds: Store) -> Scorecard:
    """Its scorecard."""
    return scorecard(official, "made", seeds.frame())


@pytest.fixture(scope="session")
def card(study: MakeStudy, whole: Store) -> Scorecard:
    """Its scorecard."""
    return scorecard(study(), "made", whole.frame())
