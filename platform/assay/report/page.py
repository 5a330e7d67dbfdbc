"""The report: one self-contained HTML page. It needs no network, no server and no JavaScript of anyone else."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd
import yaml
from plotly.offline import get_plotlyjs

from assay import statistics
from assay.data.base import Dataset
from assay.report import failsafe, figures
from assay.report.claims import Judged, claimed_text, judge, read_claims
from assay.report.claims import shown as shown_claim
from assay.report.evidence import Evidence
from assay.report.scorecard import Cell, Line, Scorecard, everything, of_cohort, scorecard
from assay.statistics import Comparison, Design
from assay.study.spec import Study
from assay.study.store import Store
from assay.threats import radius_text


@dataclass(frozen=True, kw_only=True)
class Section:
    """One cohort, ready for the template."""

    card: Scorecard
    dataset: Dataset
    figures: Mapping[str, str]
    raised: list[dict[str, Any]]
    """Checks that did not pass."""
    passed: int
    """Checks that did."""
    lines: list[Line]
    """Everything measured, for the table of all."""
    recipes: Mapping[str, str]
    """What each recipe is, in words."""
    claims: list[Judged]
    """The claims of the reproduced study; empty where none of them could be tested."""

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
        self.path = publish(self._study, datasets, self._store)


def publish(study: Study, datasets: Mapping[str, Dataset], store: Store) -> str:
    """Write ``report.html`` from what is stored now; its path."""
    settings = store.read_text("study.yaml")
    frame = store.frame()
    sections = [_section(study, name, of_cohort(frame, name), datasets[name]) for name in study.cohorts]
    failures = store.failures()
    page = (
        environment()
        .get_template("page.html.j2")
        .render(
            study=study,
            sections=sections,
            failures={trial: error.splitlines()[0] for trial, error in failures.items()},
            planned=len(yaml.safe_load(settings)["trials"]),
            finished=frame["trial"].nunique() - len(failures),
            settings=settings,
            about=yaml.safe_load(settings),
            designs=list(dict.fromkeys(design_text(section.card.design) for section in sections)),
            plotly=get_plotlyjs(),
        )
    )
    return store.write_text("report.html", page)


def _section(study: Study, name: str, frame: pd.DataFrame, dataset: Dataset) -> Section:
    card = scorecard(study, name, frame)
    drawn = {
        "robustness": figures.robustness(card, frame, dataset.units),
        "attacks": figures.attacks(card, frame),
        "privacy": figures.privacy(card),
        "clients": figures.clients(card, frame),
        "faithfulness": figures.faithfulness(card, frame),
        "shift": failsafe.shift(card, frame),
        "risk_coverage": failsafe.risk_coverage(card, frame),
        "conformal_sets": failsafe.conformal(card, frame),
        "out_of_distribution": failsafe.out_of_distribution(card, frame),
        "cost": figures.cost(card, frame, study.baseline),
        "accuracy_differences": figures.differences(card, "accuracy", study.baseline),
        "robust_differences": figures.differences(card, "robust", study.baseline),
    }
    raised = card.checks[card.checks["verdict"] != "pass"]
    return Section(
        card=card,
        dataset=dataset,
        figures={
            key: figures.html(figure, described=key.replace("_", " "))
            for key, figure in drawn.items()
            if figure is not None
        },
        raised=raised.sort_values("verdict").to_dict("records"),  # type: ignore[arg-type]
        passed=int((card.checks["verdict"] == "pass").sum()),
        lines=everything(frame, card.recipes, card.design),
        recipes={recipe: described(study, name, recipe) for recipe in card.recipes},
        claims=_claims(card, frame),
    )


def _claims(card: Scorecard, frame: pd.DataFrame) -> list[Judged]:
    judged = [
        judge(claim, frame, reference_epsilon=card.reference_epsilon, design=card.design) for claim in read_claims()
    ]
    return judged if any(one.measured is not None for one in judged) else []


def design_text(design: Design) -> str:
    """How a cohort's records were split, in words."""
    if design.official:
        return f"official split, {design.repeats} seed{'s' if design.repeats > 1 else ''}"
    if not design.trained:
        return "a given model, tested on every record"
    return f"{design.folds}-fold cross-validation" + (f", {design.repeats} repeats" if design.repeats > 1 else "")


def interval_meaning(design: Design) -> str:
    """What the interval below a figure is."""
    if not design.trained:
        return "Below each figure stands its 95 % interval over records."
    if not design.official:
        return (
            "Each figure is the mean over test folds, below it the 95 % interval of that mean, corrected for the "
            "training data that folds share."
        )
    if design.repeats == 1:
        return (
            "Each figure is of one seed on the official test records, below it its 95 % interval over these records; "
            "how much another seed would change it is not known."
        )
    return (
        f"Each figure is the mean over {design.repeats} seeds on the official test records. The 95 % interval below it "
        "joins two uncertainties: of these records, which more seeds do not lessen, and of the seeds."
    )


def described(study: Study, cohort: str, recipe: str) -> str:
    """A recipe in words."""
    asked = study.cohorts[cohort].recipes[recipe]
    settings = asked.objective.model_dump(exclude={"name"})
    words = [f"{treatment.name} ({_listed(treatment.model_dump(exclude={'name'}))})" for treatment in asked.data]
    words += [f"objective {asked.objective.name}" + (f" ({_listed(settings)})" if settings else "")]
    if asked.privacy is not None:
        words.append(
            f"DP-SGD to ε = {asked.privacy.epsilon:g}, δ = {asked.privacy.delta:g}, "
            f"clipping {asked.privacy.max_grad_norm:g}"
        )
    if asked.federation is not None:
        f = asked.federation
        led = f"{f.strategy} (μ = {f.proximal_mu:g})" if f.strategy == "fedprox" else f.strategy
        dealt = f"{f.partition}, α = {f.alpha:g}" if f.partition == "dirichlet" else f.partition
        words.append(f"{led} over {f.clients} clients ({dealt}), {f.rounds} rounds of {f.local_epochs} epochs")
    else:
        words.append(f"{asked.training.epochs} epochs")
    words.append(
        f"batches of {asked.training.batch_size}, {asked.training.optimizer} at {asked.training.learning_rate:g}"
    )
    return "; ".join(words)


def shown(value: float, unit: str) -> str:
    """A figure with as many digits as a reader can use."""
    if math.isnan(value):
        return "–"
    if unit == "percent":
        return f"{value:.1%}"
    if unit == "seconds":
        return f"{value:.2f} s"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.3g}"


def cell_text(cell: Cell, column: Evidence) -> str:
    """The value of a cell, or what stands in its place."""
    if cell.summary is not None:
        return shown(cell.summary.mean, column.unit)
    if cell.failed:
        return "failed"
    return "∞" if column.name.startswith("epsilon") and "not private" in cell.why else "–"


def interval_text(cell: Cell, column: Evidence) -> str:
    """The 95 % interval of a cell, empty where there is none."""
    if cell.summary is None or math.isnan(cell.summary.low) or not column.estimated:
        return ""
    low, high = (min(max(end, column.least), column.most) for end in (cell.summary.low, cell.summary.high))
    if column.unit == "percent":
        return f"{100 * low:.1f} – {100 * high:.1f}"
    return f"{low:.2f} – {high:.2f}"


def records_text(card: Scorecard, recipe: str, column: Evidence) -> str:
    """How many records were asked, where that is fewer than accuracy was asked of; empty elsewhere."""
    asked, whole = card.cells[recipe, column.key].records, card.cells[recipe, "accuracy"].records
    return f"{asked} of {whole} records" if column.sampled and 0 < asked < whole else ""


def comparison_text(comparison: Comparison, column: Evidence) -> str:
    """A difference with its interval."""
    scale, digits, sign = (100, 1, " points") if column.unit == "percent" else (1, 3, "")
    return (
        f"{scale * comparison.difference:+.{digits}f}{sign} "
        f"({scale * comparison.low:+.{digits}f} to {scale * comparison.high:+.{digits}f})"
    )


def _listed(settings: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key.replace('_', ' ')} {radius_text(value) if isinstance(value, float) else value}"
        for key, value in settings.items()
    )


def environment() -> jinja2.Environment:
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
        "records_text": records_text,
        "comparison_text": comparison_text,
        "claimed_text": claimed_text,
        "shown_claim": shown_claim,
        "colours": figures.colours,
        "design_text": design_text,
        "interval_meaning": interval_meaning,
        "signed_rank_floor": statistics.signed_rank_floor,
        "isnan": math.isnan,
    }
    return made
