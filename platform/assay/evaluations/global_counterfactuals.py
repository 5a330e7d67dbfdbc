"""How often a record has a counterfactual, how far it is, and the changes of a few."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from assay import intervals, seeds
from assay.evaluations.global_metrics import DISTANCE, INPUTS, RECORDS
from assay.evaluations.global_units import answer_name
from assay.evaluations.licences import is_public
from assay.evaluations.shares import estimated, share
from assay.evaluations.subject import Subject
from assay.explain.global_.change_rules import ChangeRules, change_rules
from assay.explain.global_.counterfactuals import Counterfactuals, most_changed, nearest_counterfactuals
from assay.results import Finding, Measurement, not_applicable

_STARTS = 300
"""Records at which a search may begin where the model has no gradient, or where it finds nothing."""


@dataclass(frozen=True, kw_only=True)
class Counterfactual:
    """Searches the nearest counterfactual of test records, and the nearest that changes few numbers."""

    subject: Subject
    """As it decides."""
    immutable: Sequence[str] | None
    digits: int
    from_training: bool
    """Whether training records give the ranges of values, and places at which a search begins."""
    few: int
    """Greatest number of inputs that change in the second search, for changes that can be read."""
    examples: int
    draws: int

    names: ClassVar[tuple[str, ...]] = (
        "counterfactual_validity",
        "counterfactual_distance",
        "counterfactual_changes",
        "counterfactual_examples",
    )

    def measured(self, rows: np.ndarray) -> list[Finding]:
        """Returns the share of records with a counterfactual, its distance, the number of changes, and examples.

        Args:
            rows: (n,) positions of the test records.

        Returns:
            The findings.

        Raises:
            UserError: an immutable column does not exist.
        """
        subject = self.subject
        x, _ = subject.records(rows)
        if not np.isfinite(subject.logits(rows)).all():
            why = "the model answers NaN or infinity"
            return [not_applicable(name, why, reason="no_finite_answers") for name in self.names]
        seen = np.asarray(subject.dataset.x[subject.split.train], np.float32) if self.from_training else None
        varied = None if self.from_training else x.cpu().numpy()
        rules = change_rules(subject.dataset, immutable=self.immutable, digits=self.digits, seen=seen, varied=varied)
        gradient = not subject.why_no_gradient
        search = partial(
            nearest_counterfactuals,
            subject.model,
            x,
            rules,
            subject.decisions,
            starts=self._starts(rules, x),
            gradient=gradient,
        )
        nearest = search()
        sparse = search(only=most_changed(x, nearest, rules, self.few))
        about: dict[str, Any] = {
            "search": "gradient" if gradient else "from other records",
            "ranges": rules.ranges,
            "distances_in": rules.unit,
            "digits": self.digits,
            "immutable": [name for name, fixed in zip(rules.names, rules.fixed, strict=True) if fixed],
        }
        few = {**about, "change": f"at most {self.few} numbers"}
        return [
            *self._figures(nearest, rows, {**about, "change": "any inputs"}),
            *self._figures(sparse, rows, few),
            self._examples(sparse, rules, x.cpu().numpy(), few),
        ]

    def _starts(self, rules: ChangeRules, x: Tensor) -> Tensor:
        """Returns records at which a search may begin: training records, or random ones within the stated bounds."""
        subject = self.subject
        if self.from_training:
            chosen = seeds.stream(subject.seed, "counterfactual", "starts").permutation(subject.split.train)[:_STARTS]
            return subject.records(np.sort(chosen))[0]
        low, high = (np.nan_to_num(end, posinf=1.0, neginf=-1.0) for end in (rules.low, rules.high))
        draw = seeds.stream(subject.seed, "counterfactual", "starts").random((_STARTS, len(low)))
        return torch.from_numpy((low + draw * (high - low)).astype(np.float32)).to(x)

    def _figures(self, found: Counterfactuals, rows: np.ndarray, about: dict[str, Any]) -> list[Finding]:
        subject = self.subject
        clusters, has = subject.clusters(rows), found.found
        rate = share(self.names[0], has, clusters, **about, not_found=int((~has).sum()))
        if not has.any():
            why = f"none of {len(rows)} records has a counterfactual that was found"
            return [rate, *(not_applicable(name, why, reason="no_records", **about) for name in self.names[1:3])]
        means: list[Finding] = []
        for name, values, unit in (
            (self.names[1], found.distance[has], DISTANCE),
            (self.names[2], found.changed[has].astype(float), INPUTS),
        ):
            interval = intervals.bootstrap(
                lambda chosen, values=values: float(values[chosen].mean()),  # type: ignore[misc]
                len(values),
                generator=seeds.stream(subject.seed, "bootstrap", name),
                draws=self.draws,
                groups=None if clusters is None else clusters[has],
            )
            means.append(estimated(name, interval, unit=unit, n=len(values), conditions=about))
        return [rate, *means]

    def _examples(
        self, found: Counterfactuals, rules: ChangeRules, x: np.ndarray, about: dict[str, Any]
    ) -> Measurement:
        """Returns the changes of the nearest counterfactuals, where records of the data may be shown."""
        dataset, name = self.subject.dataset, self.names[3]
        if not is_public(dataset):
            why = (
                "a counterfactual is a changed record of a patient: none is shown, since the licence of the data set "
                f"is {dataset.licence!r}"
            )
            return not_applicable(name, why, reason="not_public")
        first = np.flatnonzero(found.found)[np.argsort(found.distance[found.found], kind="stable")]
        shown = _by_class(first, found.before)[: self.examples]
        if not shown:
            why = "no record has a counterfactual that was found, or examples is 0"
            return not_applicable(name, why, reason="no_records")
        before, after = rules.reported(x), rules.reported(found.values)
        examples = [
            {
                "from": answer_name(dataset, int(found.before[row])),
                "to": answer_name(dataset, int(found.after[row])),
                "distance": float(found.distance[row]),
                "changes": [
                    {
                        "feature": rules.names[place],
                        "unit": rules.units[place],
                        "before": float(f"{before[row, place]:.10g}"),
                        "after": float(f"{after[row, place]:.10g}"),
                    }
                    for place in np.flatnonzero(before[row] != after[row])
                ],
            }
            for row in shown
        ]
        conditions = {**about, "shown": {"examples": examples}}
        return Measurement(name=name, value=len(shown), unit=RECORDS, n=len(shown), conditions=conditions)


def _by_class(rows: np.ndarray, before: np.ndarray) -> list[int]:
    """Returns rows so that classes take turns, in each the nearest first."""
    queues = [rows[before[rows] == one].tolist() for one in np.unique(before[rows])]
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[place] for place in range(longest) for queue in queues if place < len(queue)]
