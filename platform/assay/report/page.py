"""The report: one self-contained HTML page. It needs no network, no server and no JavaScript of anyone else."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd
import plotly.graph_objects as go
import yaml
from plotly.offline import get_plotlyjs

from assay import statistics
from assay.data.base import Dataset
from assay.report.cells import ScoreTable, runs_text
from assay.report.claims import JudgedClaim, claimed_text, judge_claim, read_claims
from assay.report.claims import claim_figure as shown_claim
from assay.report.decisions import Decisions, decide
from assay.report.evidence import in_tables, norm_text
from assay.report.figures import (
    certificates,
    comparison,
    explanations,
    failsafe,
    federation,
    matrix,
    membership,
    poisoning,
    privacy,
    robustness,
)
from assay.report.figures.style import colours, html
from assay.report.lines import Line, everything
from assay.report.marks import NumberedWarning, marks, merged
from assay.report.rows import measured, of_cohort, settings
from assay.report.scales import own_units
from assay.report.scorecard import Scorecard, scorecard
from assay.report.sections.summary import summaries, summary_cell, value_text
from assay.report.tables.adaptive import Answered, adaptive
from assay.report.tables.attacks import attacks, caption
from assay.report.tables.certificates import Certified, certified_table
from assay.report.tables.classes import classes
from assay.report.tables.interaction import Interaction, interactions
from assay.report.tables.membership import OfRecipe, exposed
from assay.report.tables.poisoning import poisoning as poisoned
from assay.report.tables.privacy import Costs, costs, uncorrected, units_text
from assay.report.words import (
    cell_text,
    comparison_text,
    describe_recipe,
    design_text,
    interval_meaning,
    interval_text,
    notes,
    shown,
    summary_text,
)
from assay.store.folder import Store
from assay.study.registration import registration
from assay.study.spec import Study
from assay.threats import radius_text


@dataclass(frozen=True, kw_only=True)
class Raised:
    """One rule that did not pass, over all recipes."""

    rule: str
    verdict: str
    recipes: tuple[str, ...]
    """Each with the runs in which it was raised, in words."""
    message: str
    """Of the first recipe."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One cohort, ready for the template."""

    card: Scorecard
    dataset: Dataset
    figures: Mapping[str, str]
    marks: list[NumberedWarning]
    """Every warning beside a figure of the scorecard, once."""
    raised: list[Raised]
    """Checks that did not pass, each rule and verdict once."""
    passed: int
    """Checks that did."""
    lines: list[Line]
    """Everything measured, for the table of all."""
    recipes: Mapping[str, str]
    """What each recipe is, in words."""
    claims: list[JudgedClaim]
    """The claims of the reproduced study and its field; empty where none of them could be tested."""
    attacked: list[str]
    """The attacks behind the worst case, in words."""
    attacks: ScoreTable | None
    """Recipes × attacks at the reference radius."""
    classes: ScoreTable | None
    """Recipes × classes in the worst case there."""
    answered: list[Answered]
    """Where a check warned and an adaptive attack answered."""
    certified: Mapping[str, Certified]
    """By the figure that shows the certificates."""
    poisoned: ScoreTable | None
    """What became of the training records."""
    exposed: list[OfRecipe]
    """The training records that an attacker recognises best."""
    interactions: list[Interaction]
    """Adversarial and private training, alone and together."""
    costs: Costs | None
    """What each budget costs in accuracy."""
    protects: str
    """For whom the ε of its private recipes holds, in words."""
    own_units: str
    """What the radius of the scorecard is of each feature of a table, in its own unit, in words; empty of others."""
    uncorrected: str
    """Why its audits do not hold together; empty if they do."""

    @property
    def fails_safe(self) -> bool:
        """Whether anything is known of when the model holds back."""
        return bool({"risk_coverage", "conformal_sets", "out_of_distribution"} & set(self.figures))

    @property
    def pairs(self) -> int:
        """The most pairs of trials on which two recipes were compared."""
        return max((comparison.count for comparison in self.card.comparisons.values()), default=0)


class Publisher:
    """Writes the report of a study again and again while it grows."""

    def __init__(self, study: Study, store: Store) -> None:
        self._study, self._store = study, store
        self.path = ""

    def publish(self, datasets: Mapping[str, Dataset]) -> None:
        """Write ``report.html`` from what is stored now.

        Args:
            datasets: those of the cohorts, as they were loaded for the trials.
        """
        self.path = publish_report(self._study, datasets, self._store)


def publish_report(study: Study, datasets: Mapping[str, Dataset], store: Store) -> str:
    """Write ``report.html`` from what is stored now; its path."""
    return store.write_text("report.html", render(study, datasets, store))


def render(study: Study, datasets: Mapping[str, Dataset], store: Store) -> str:
    """The page of what is stored now."""
    kept = store.read_text("study.yaml")
    about = yaml.safe_load(kept)
    frame = store.frame()
    sections = [_section(study, name, frame, datasets[name]) for name in study.cohorts]
    cards = [section.card for section in sections]
    failures = store.failures()
    return (
        template_environment()
        .get_template("page.html.j2")
        .render(
            study=study,
            sections=sections,
            summaries=summaries(cards, decisions_of(study, store, frame), study.baseline),
            failures={trial: error.splitlines()[0] for trial, error in failures.items()},
            planned=len(about["trials"]),
            finished=frame["trial"].nunique() - len(failures),
            settings=kept,
            about=about,
            designs=list(dict.fromkeys(design_text(section.card.design) for section in sections)),
            plotly=get_plotlyjs(),
        )
    )


def decisions_of(study: Study, store: Store, frame: pd.DataFrame) -> dict[str, Decisions | None]:
    """The verdicts of each cohort; None of those without requirements."""
    return {
        name: decide(study, name, frame, registration(store, name, cohort, measured=bool(len(of_cohort(frame, name)))))
        for name, cohort in study.cohorts.items()
    }


def _section(study: Study, name: str, everything_found: pd.DataFrame, dataset: Dataset) -> Section:
    frame = of_cohort(everything_found, name)
    card = scorecard(study, name, frame)
    paid = costs(card, study, everything_found)
    drawn = _drawn(study, card, frame, dataset.units, paid)
    return Section(
        card=card,
        dataset=dataset,
        figures={
            key: html(figure, described=key.replace("_", " ")) for key, figure in drawn.items() if figure is not None
        },
        marks=merged(marks(card)),
        raised=_raised(card),
        passed=int((card.checks["verdict"] == "pass").sum()),
        lines=everything(frame, card.recipes, card.design),
        recipes={recipe: describe_recipe(study, name, recipe) for recipe in card.recipes},
        claims=_claims(card, frame),
        attacked=_attacked(frame),
        attacks=attacks(card, frame),
        classes=classes(card, frame),
        answered=adaptive(card, frame),
        certified={
            key: certified_table(card, frame, method)
            for key, method in (("certified", certificates.INTERVAL), ("smoothed", certificates.SMOOTHING))
            if drawn[key] is not None
        },
        poisoned=poisoned(card, frame),
        exposed=exposed(card, frame),
        interactions=interactions(card, study, frame),
        costs=paid,
        protects=units_text(frame, card.recipes),
        own_units=own_units(frame, card.reference_epsilon),
        uncorrected=uncorrected(card, everything_found),
    )


def _raised(card: Scorecard) -> list[Raised]:
    """The checks that did not pass, failed ones first."""
    groups: dict[tuple[str, str], list[dict[Any, Any]]] = {}
    raised = card.checks[card.checks["verdict"] != "pass"]
    for check in raised.sort_values("verdict", kind="stable").to_dict("records"):
        groups.setdefault((check["rule"], check["verdict"]), []).append(check)
    return [
        Raised(
            rule=rule,
            verdict=verdict,
            recipes=tuple(f"{check['recipe']} ({check['raised']} of {check['count']})" for check in own),
            message=own[0]["message"],
        )
        for (rule, verdict), own in groups.items()
    ]


def _drawn(
    study: Study, card: Scorecard, frame: pd.DataFrame, units: str, paid: Costs | None
) -> dict[str, go.Figure | None]:
    return {
        "robustness": robustness.worst_case_figure(card, frame, units),
        "matrix": matrix.train_against_test(card, study, frame, units),
        "certified": certificates.interval_bounds(card, frame, units),
        "smoothed": certificates.smoothing(card, frame, units),
        "poisoned": poisoning.by_recipe(card, study, frame),
        "poisoned_by_share": poisoning.by_share(card, study, frame),
        "privacy": privacy.privacy(
            card, study, frame, best={paid.plain: paid.accuracy} if paid and paid.elsewhere else {}
        ),
        "membership": membership.roc(card, frame),
        "clients": federation.clients(card, frame),
        "faithfulness": explanations.faithfulness(card, frame),
        "shift": failsafe.shift(card, frame),
        "risk_coverage": failsafe.risk_coverage(card, frame),
        "conformal_sets": failsafe.conformal(card, frame),
        "out_of_distribution": failsafe.out_of_distribution(card, frame),
        "cost": comparison.cost(card, frame, study.baseline),
        "accuracy_differences": comparison.differences(card, "accuracy", study.baseline),
        "robust_differences": comparison.differences(card, "robust", study.baseline),
    }


def _attacked(frame: pd.DataFrame) -> list[str]:
    """The attacks behind a worst case over all trials; those that stand alone where it does not name them."""
    rows = measured(frame, "worst_case_accuracy")
    named = dict.fromkeys(label for c in rows["conditions"] for label in c.get("attacks", ()))
    found = named or dict.fromkeys(settings(measured(frame, "robust_accuracy"), "attack"))
    return [label.replace("_", " ") for label in found]


def _claims(card: Scorecard, frame: pd.DataFrame) -> list[JudgedClaim]:
    judged = [
        judge_claim(claim, frame, reference_epsilon=card.reference_epsilon, design=card.design)
        for claim in read_claims()
    ]
    return judged if any(one.measured is not None for one in judged) else []


def template_environment() -> jinja2.Environment:
    """Templates of the reports, with the filters they use."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("assay.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {"shown": shown, "radius": radius_text}
    made.globals |= {
        "cell_text": cell_text,
        "interval_text": interval_text,
        "notes": notes,
        "runs_text": runs_text,
        "comparison_text": comparison_text,
        "claimed_text": claimed_text,
        "shown_claim": shown_claim,
        "colours": colours,
        "norm_text": norm_text,
        "in_tables": in_tables,
        "value_text": value_text,
        "summary_cell": summary_cell,
        "summary_text": summary_text,
        "attack_caption": caption,
        "design_text": design_text,
        "interval_meaning": interval_meaning,
        "signed_rank_floor": statistics.signed_rank_floor,
        "isnan": math.isnan,
    }
    return made
