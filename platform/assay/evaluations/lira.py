"""Does the model tell who was in its training data, to an attacker who trains such models too?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from assay import seeds, statistics
from assay.evaluations.base import Evaluation, Subject
from assay.evaluations.pool import Pool, confidence
from assay.evaluations.roc import RATES, Rate, told_apart, unanswered
from assay.executors import LocalExecutor
from assay.registry import register
from assay.results import Check, Finding, Measurement

Mode = Literal["online", "offline"]
"""Whether the attacker has models that were trained on a record, or only such as were not."""
_UNITS: dict[Mode, str] = {"online": "log-likelihood ratio", "offline": "standard deviations"}
_PER_RECORD = 64
"""Shadow models from which on each record has a variance of its own, as in the paper."""
_LEAST_VARIANCE = 1e-12
_EXPOSED = 10


@register("evaluation")
class LiRA(Evaluation):
    """The likelihood-ratio attack (Carlini et al. 2022, arXiv:2112.03570): how sure is the model of a record, against
    how sure models of its kind are that have, or have not, seen it?

    Shadow models are trained by the recipe itself, each on half of the pool of members and non-members (``Pool``),
    with draws of its own: first weights, batches, and the noise of a private recipe. Two shadows share out the pool, so
    that every record is in for exactly half of them; patients go whole, and classes keep their shares. The half is the
    paper's. As many records as the target had would bring its shadows nearer to it, but mostly leaves a few shadows
    without a given record, whose own distribution nobody would then know. The conditions say both sizes, ``members``
    that of the target.

    ``online`` compares the normal density of the confidence (``pool.confidence``) among the shadows that saw a record
    with that among those that did not. ``offline`` looks at the latter alone, as an attacker must who meets a record
    after training the shadows, and tests on one side. With fewer than 64 shadows all records share a variance.

    A federated recipe's shadows are trained in one place. What is learnt from the training split before any training
    (a vocabulary) is the target's for all shadows.
    """

    name: Literal["lira"] = "lira"
    shadows: int = Field(default=16, ge=4, multiple_of=2)
    """Trainings; in pairs that share out the pool."""
    mode: Mode = "online"
    false_positive_rates: tuple[Rate, ...] = Field(default=RATES)
    draws: int = Field(default=200, ge=50)

    def forecast(self, records: int) -> str:
        return f"{self.name}: {self.shadows} more trainings of every recipe, each on half of members and non-members"

    def measure(self, subject: Subject) -> Sequence[Finding]:
        pool = Pool.of(subject)
        about = self._conditions(pool)
        if why := _why_not(subject):
            return self._unanswered(why, about)
        inside = dealt(subject, pool.rows, self.shadows)
        shadows = _confidences(subject, pool.rows, inside)
        own = confidence(subject, pool.rows)
        if not (np.isfinite(own).all() and np.isfinite(shadows).all()):
            return self._unanswered("the model or a shadow of it answers NaN or infinity", about)
        score = likelihood_ratio(own, shadows, inside, mode=self.mode)
        found = told_apart(
            self.name,
            subject,
            pool,
            score,
            rates=self.false_positive_rates,
            draws=self.draws,
            conditions=about,
            warnings=_cautions(subject, pool),
        )
        area = statistics.auroc(pool.is_member, own)
        return [*found, self._exposed(pool, score, about), _shadows_help(found[0], area)]

    def _conditions(self, pool: Pool) -> dict[str, Any]:
        return {
            "attack": f"LiRA {self.mode}",
            "mode": self.mode,
            "shadows": self.shadows,
            "variance": "of each record" if self.shadows >= _PER_RECORD else "shared",
            "shadows_trained_on": len(pool.rows) // 2,
        }

    def _unanswered(self, why: str, about: dict[str, Any]) -> list[Measurement]:
        rows = unanswered(self.name, why, rates=self.false_positive_rates, **about)
        return [*rows, Measurement(name="lira_exposed", status="not_applicable", conditions=about, warnings=(why,))]

    def _exposed(self, pool: Pool, score: np.ndarray, about: dict[str, Any]) -> Measurement:
        """The members that the attack is surest of, by their position in the data set; the value is the greatest score.

        Positions mean something to the curator of the data alone, and so they stay there.
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


def dealt(subject: Subject, rows: np.ndarray, shadows: int) -> np.ndarray:
    """Who is in for which shadow, (shadows, n) bool: two after each other share out the rows.

    Patients go whole. Classes keep their shares, a patient counting as one of the class of its first record.
    """
    groups = subject.groups(rows)
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


def likelihood_ratio(
    own: np.ndarray, shadows: np.ndarray, inside: np.ndarray, *, mode: Mode, per_record: bool | None = None
) -> np.ndarray:
    """How much likelier the target's confidence in each record is if it was trained on it, (n,).

    Online, the logarithm of the ratio of two normal densities; offline, the standard deviations by which it exceeds
    the mean of the models that did not see the record, which rank records as the one-sided test does.

    Args:
        own: (n,) confidence of the target.
        shadows: (shadows, n) of the shadows.
        inside: (shadows, n) bool, which shadow was trained on which record; every record on as many.
        per_record: whether each record has a variance of its own; from 64 shadows on by default.
    """
    alone = len(shadows) >= _PER_RECORD if per_record is None else per_record
    mean_out, variance_out = _normal(shadows, ~inside, per_record=alone)
    if mode == "offline":
        return np.asarray((own - mean_out) / np.sqrt(variance_out))
    mean_in, variance_in = _normal(shadows, inside, per_record=alone)
    far_in, far_out = (own - mean_in) ** 2 / variance_in, (own - mean_out) ** 2 / variance_out
    return np.asarray((far_out - far_in + np.log(variance_out) - np.log(variance_in)) / 2)


def _normal(shadows: np.ndarray, chosen: np.ndarray, *, per_record: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean, (n,), and variance, (n,) or of all records together, of the chosen shadows' confidence in each record."""
    count = chosen.sum(0)
    mean = np.where(chosen, shadows, 0.0).sum(0) / count
    squares = (np.where(chosen, shadows - mean, 0.0) ** 2).sum(0)
    variance = squares / (count - 1) if per_record else np.asarray(squares.sum() / (count - 1).sum())
    # Shadows that all say the same would make any difference infinitely telling.
    return mean, np.maximum(variance, _LEAST_VARIANCE)


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """All that a worker needs to train any shadow; it travels to a machine once."""

    subject: Subject
    """Without its model and its workers."""
    rows: np.ndarray
    threads: int


def _confidences(subject: Subject, rows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(shadows, n) confidence of every shadow in all rows; the workers share the trainings.

    Raises:
        RuntimeError: a shadow has killed its worker more than once.
    """
    bare = replace(subject, model=nn.Identity(), executor=LocalExecutor())
    ground = _Ground(subject=bare, rows=rows, threads=torch.get_num_threads())
    found = np.full(inside.shape, np.nan)
    for outcome in subject.executor.map(_shadow, list(enumerate(inside)), ground):
        if outcome.error:
            raise RuntimeError(f"shadow model {outcome.index + 1} of {len(inside)}: {outcome.error}")
        found[outcome.index] = outcome.value
    return found


def _shadow(item: tuple[int, np.ndarray], ground: _Ground) -> np.ndarray:
    """Train one shadow; its confidence in all records, (n,)."""
    torch.set_num_threads(ground.threads)
    number, inside = item
    assert ground.subject.train is not None
    model = ground.subject.train(np.sort(ground.rows[inside]), f"shadow/{number}").eval()
    device = next((weights.device for weights in model.parameters()), torch.device("cpu"))
    return confidence(replace(ground.subject, model=model, device=device), ground.rows)


def _why_not(subject: Subject) -> str:
    """Why no shadow can be trained; empty where it can."""
    if subject.log is None:
        return "the training records of this model are not known"
    return "shadow models are trained as the model was, and nothing can be trained here" if not subject.train else ""


def _cautions(subject: Subject, pool: Pool) -> tuple[str, ...]:
    said = [*pool.notes]
    if subject.dataset.groups is not None:
        said.insert(0, "a patient's records are in or out together: what is told is whether the patient took part")
    if subject.recipe is not None and subject.recipe.federation is not None:
        said.append("the shadows were trained on all their records in one place, not at the recipe's clients")
    return tuple(said)


def _shadows_help(area: Measurement, plain: float) -> Check:
    """Shadows that are unlike the target make the attack weaker than the loss alone, and a leak look small."""
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
