"""Membership inference with shadow models: the likelihood-ratio attack."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from assay import intervals, seeds
from assay.devices import repeatable
from assay.evaluations.base import Evaluation
from assay.evaluations.likelihood import Mode, likelihood_ratio
from assay.evaluations.pool import Pool
from assay.evaluations.queries import asked
from assay.evaluations.roc import RATES, Rate, membership_figures, membership_not_applicable
from assay.evaluations.subject import Subject
from assay.evaluations.units import MembershipUnits
from assay.executors import LocalExecutor
from assay.metrics import Chosen, Metric, ScorecardColumn
from assay.registry import register
from assay.results import Check, Finding, Measurement, ReasonCode, not_applicable

_UNITS: dict[Mode, str] = {"online": "log-likelihood ratio", "offline": "standard deviations"}
_EXPOSED = 10


@register("evaluation")
class LiRA(Evaluation):
    """The likelihood-ratio attack (Carlini et al. 2022, arXiv:2112.03570) with shadow models.

    It compares the confidence in a record with that of similar models that were, or were not, trained on it.

    Shadow models are trained by the recipe itself, each on half of the pool of members and non-members (``Pool``), with
    their own draws: first weights, batches, and the noise of a private recipe. Each pair of shadows splits the pool, so
    that every record is in for exactly half of the shadows; a patient's records stay together, and classes keep their
    shares. The half follows the paper. With as many records as the target had, shadows would resemble it more, but for
    most records few shadows would be out, and the distribution without the record would be unknown. The conditions
    state both sizes; ``members`` is that of the target.

    ``online`` compares the density of the confidence (``pool.confidence``) among the shadows that saw a record with
    that among those that did not. ``offline`` uses only the latter, as an attacker must who receives a record after
    training the shadows, in a one-sided test. Means and variances of few shadows are shrunk (``likelihood``). Where the
    recipe augments records, the model is queried with each record itself and with augmented versions, ``queries`` times
    in all, and the mean of the answers is used, as in the paper.

    The unit of membership is the unit that privacy protects, or would (``protected_unit``). Where records have
    patients, the ratios of a patient's records are multiplied, and figures count patients, whether the recipe is
    private or not; with ``privacy.unit: record`` they count records. Even then a patient's records are all in or all
    out, of the model and of each shadow: otherwise the others would reveal the patient, and any record would be
    recognised by its patient.

    The shadows of a federated recipe are trained centrally. What is learnt from the training split before any training
    (a vocabulary) is the target's for all shadows.
    """

    looks_at = "probabilities"
    name: Literal["lira"] = "lira"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name="lira_tpr",
            title="Membership TPR, LiRA",
            meaning="Share of training records that an attacker with shadow models recognises at a stated "
            "false-positive rate.",
            better="lower",
            columns=(
                ScorecardColumn(
                    key="lira",
                    group="privacy",
                    place=40,
                    title="Membership TPR, LiRA {mode}",
                    meaning="The same share for an attacker who trains shadow models by the same recipe: a stronger "
                    "attack than the one without shadow models.",
                    where={"false_positive_rate": 0.1, "mode": Chosen(preferred="online")},
                    optional=True,
                ),
            ),
        ),
        Metric(
            name="lira_auc",
            title="Membership AUC, LiRA",
            meaning="Probability that a member has a higher score than a non-member; 0.5 is chance.",
            better="lower",
        ),
        Metric(
            name="lira_exposed",
            title="Greatest score of LiRA",
            meaning="Greatest score of a training record for an attacker with shadow models.",
            unit="",
            better="lower",
        ),
    )

    shadows: int = Field(default=16, ge=4, multiple_of=2)
    """Number of shadow models; each pair splits the pool."""
    mode: Mode = "online"
    queries: int = Field(default=10, ge=1)
    """Times that a model is queried with each record where the recipe augments records; otherwise once."""
    false_positive_rates: tuple[Rate, ...] = Field(default=RATES)
    draws: int = Field(default=200, ge=50)

    def forecast(self, records: int) -> str:
        return f"{self.name}: {self.shadows} more trainings of every recipe, each on half of members and non-members"

    def measure(self, subject: Subject) -> Sequence[Finding]:
        pool = Pool.of(subject)
        joined = MembershipUnits.of(subject, pool)
        about = self._conditions(subject, pool, joined)
        if why := _why_not(subject):
            return self._unanswered(why, "not_trained_here", about)
        inside = pool_halves(subject, pool.rows, self.shadows)
        shadows = _confidences(subject, pool.rows, inside, queries=self.queries)
        own = asked(subject, pool.rows, queries=self.queries)
        if not (np.isfinite(own).all() and np.isfinite(shadows).all()):
            why = "the model or a shadow of it answers NaN or infinity"
            return self._unanswered(why, "no_finite_answers", about)
        score = joined.total(likelihood_ratio(own, shadows, inside, mode=self.mode))
        found = membership_figures(
            self.name,
            subject,
            joined.pool,
            score,
            rates=self.false_positive_rates,
            draws=self.draws,
            conditions=about,
            warnings=_cautions(subject, pool, joined),
        )
        area = intervals.auroc(joined.pool.is_member, joined.total(own) / joined.counts)
        return [*found, self._exposed(joined.pool, score, about), _shadows_help(found[0], area)]

    def _conditions(self, subject: Subject, pool: Pool, joined: MembershipUnits) -> dict[str, Any]:
        return {
            "attack": f"LiRA {self.mode}",
            "mode": self.mode,
            "shadows": self.shadows,
            "variance": "shrunk",
            "queries": self.queries if subject.augmentations else 1,
            "unit_of_members": joined.unit,
            "shadows_trained_on": len(pool.rows) // 2,
        }

    def _unanswered(self, why: str, reason: ReasonCode, about: dict[str, Any]) -> list[Measurement]:
        rows = membership_not_applicable(self.name, why, reason, rates=self.false_positive_rates, **about)
        return [*rows, not_applicable("lira_exposed", why, reason=reason, **about)]

    def _exposed(self, pool: Pool, score: np.ndarray, about: dict[str, Any]) -> Measurement:
        """Returns the members with the highest scores, by position in the data set, and the highest score.

        For a patient it is the position of the first record. Positions only have a meaning for the curator of the data,
        so they stay there.
        """
        members = score[pool.is_member]
        first = np.argsort(-members, kind="stable")[:_EXPOSED]
        return Measurement(
            name="lira_exposed",
            value=float(members[first[0]]),
            unit=_UNITS[self.mode],
            n=len(members),
            conditions={
                **about,
                "records": pool.members[first].tolist(),
                "scores": [round(float(one), 4) for one in members[first]],
            },
        )


def pool_halves(subject: Subject, rows: np.ndarray, shadows: int) -> np.ndarray:
    """Assigns the rows to shadows: each pair of shadows splits them.

    A patient's records stay together. Classes keep their shares; a patient counts as one of the class of its first
    record.

    Args:
        subject: with its data and seed.
        rows: (n,) positions of the records.
        shadows: number of shadows, even.

    Returns:
        (shadows, n) bool, whether each record is in.
    """
    groups = subject.patients(rows)
    _, first, unit = np.unique(rows if groups is None else groups, return_index=True, return_inverse=True)
    label, inside = subject.dataset.y[rows[first]], np.empty((shadows, len(rows)), bool)
    for pair in range(shadows // 2):
        shuffled = seeds.stream(subject.seed, "lira", "halves", pair).permutation(len(first))
        order = shuffled[np.argsort(label[shuffled], kind="stable")]
        chosen = np.empty(len(first), bool)
        chosen[order] = np.arange(len(first)) % 2 == 0
        inside[2 * pair] = chosen[unit]
        inside[2 * pair + 1] = ~chosen[unit]
    return inside


@dataclass(frozen=True, kw_only=True)
class _SharedInputs:
    """What a worker needs to train any shadow; it is sent to a machine once."""

    subject: Subject
    """Without its model and its workers."""
    rows: np.ndarray
    threads: int
    queries: int


def _confidences(subject: Subject, rows: np.ndarray, inside: np.ndarray, *, queries: int) -> np.ndarray:
    """Returns the (shadows, n) confidence of every shadow in all rows; the workers share the trainings.

    Raises:
        RuntimeError: a shadow has killed its worker more than once.
    """
    bare = replace(subject, model=nn.Identity(), executor=LocalExecutor())
    shared = _SharedInputs(subject=bare, rows=rows, threads=torch.get_num_threads(), queries=queries)
    confidences = np.full(inside.shape, np.nan)
    for outcome in subject.executor.map(_shadow, list(enumerate(inside)), shared):
        if outcome.error:
            raise RuntimeError(f"shadow model {outcome.index + 1} of {len(inside)}: {outcome.error}")
        confidences[outcome.index] = outcome.value
    return confidences


def _shadow(item: tuple[int, np.ndarray], shared: _SharedInputs) -> np.ndarray:
    """Trains one shadow and returns its confidence in all records, (n,)."""
    torch.set_num_threads(shared.threads)
    number, inside = item
    assert shared.subject.train is not None
    model = shared.subject.train(np.sort(shared.rows[inside]), f"shadow/{number}").eval()
    device = next((weights.device for weights in model.parameters()), torch.device("cpu"))
    with repeatable(tf32=False):
        return asked(replace(shared.subject, model=model, device=device), shared.rows, queries=shared.queries)


def _why_not(subject: Subject) -> str:
    """Returns why no shadow can be trained; empty where one can."""
    if subject.log is None:
        return "the training records of this model are not known"
    return "shadow models are trained as the model was, and nothing can be trained here" if not subject.train else ""


def _cautions(subject: Subject, pool: Pool, joined: MembershipUnits) -> tuple[str, ...]:
    cautions = [*pool.notes]
    if subject.dataset.patients is not None and joined.unit == "record":
        cautions.insert(0, "a patient's records are in or out together: what is told is whether the patient took part")
    if subject.recipe is not None and subject.recipe.federation is not None:
        cautions.append("the shadows were trained on all their records in one place, not at the recipe's clients")
    return tuple(cautions)


def _shadows_help(area: Measurement, plain: float) -> Check:
    """Checks that LiRA is not weaker than the loss alone; shadows that differ from the target would hide a leak."""
    better = plain > area.high
    return Check(
        rule="shadows_help",
        concerns="lira_tpr",
        verdict="warn" if better else "pass",
        figure=plain - area.value,
        message=f"without any shadow the confidence alone tells members with an AUC of {plain:.3f}, LiRA with "
        f"{area.value:.3f}: "
        + ("the shadows are unlike the model, and it may leak more than LiRA sees" if better else "shadows do no harm"),
        conditions={"attack": area.conditions["attack"]},
    )
