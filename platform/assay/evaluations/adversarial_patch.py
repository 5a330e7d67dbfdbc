"""Accuracy under an adversarial patch, in a random place and pose."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy import stats
from torch import Tensor

from assay import seeds
from assay.attacks.adversarial_patch import AdversarialPatch, Places, stuck
from assay.evaluations.base import Evaluation
from assay.evaluations.shares import share
from assay.evaluations.subject import Subject
from assay.metrics import Chosen, Metric, ScorecardColumn, in_percent
from assay.models.batches import places as batches
from assay.models.batches import respond
from assay.registry import register
from assay.results import Check, Finding, Measurement, ReasonCode, not_applicable

ACCURACY, SUCCESS = "patch_accuracy", "patch_success"
_CONTROL = "random_patch"


@register("evaluation")
class PatchRobustness(Evaluation):
    """Accuracy under a patch that was optimised on training records, at random places on the test records.

    Without a target the attacker knows the true class and has one patch for each class, to make its records
    misclassified. With a target, a single patch is to make the model answer that class. Places are drawn at random, not
    chosen: the figure is a mean over them, not a worst case. A patch of random values at the same places serves for
        comparison.
    """

    looks_at = "decisions"
    name: Literal["adversarial_patch"] = "adversarial_patch"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            name=ACCURACY,
            title="Accuracy under a patch",
            meaning="Share of records classified correctly with one printed patch, the same for all, in a random place "
            "and pose.",
            better="higher",
            columns=(
                ScorecardColumn(
                    key="patch",
                    group="attack",
                    place=90,
                    title="Patch ({share} of the area)",
                    where={"attack": "adversarial_patch", "share": Chosen(preferred=0.05)},
                    texts={"share": in_percent},
                    sampled=True,
                    optional=True,
                ),
            ),
        ),
        Metric(
            name=SUCCESS,
            title="Success of a patch",
            meaning="Share of the records that could be fooled and were.",
            better="lower",
        ),
    )

    patch: AdversarialPatch = AdversarialPatch()
    target: int | None = Field(default=None, ge=0)
    """The class that every other record is to be classified as; None for any wrong answer."""
    records: int | None = Field(default=None, ge=10)
    """Test records under the patch, stratified; all by default."""
    train_records: int | None = Field(default=500, ge=10)
    """Training records that the patch is optimised on, stratified; None for all."""

    def forecast(self, records: int) -> str:
        how_many = "a class" if self.target is None else "in all"
        return f"{self.patch.steps} gradient steps on {self.patch.batch} records {how_many}, for the patch"

    def measure(self, subject: Subject) -> Sequence[Finding]:
        why, reason = self._why_not(subject)
        if why:
            return [not_applicable(name, why, reason=reason) for name in (ACCURACY, SUCCESS)]
        records = _PatchedRecords.of(subject, self.patch, self.sample(subject))
        patched = self._under(records, optimised=True)
        controlled = self._under(records, optimised=False)
        about = {
            **self.patch.model_dump(),
            "target": "any wrong class" if self.target is None else subject.dataset.class_names[self.target],
            "places": "drawn uniformly for each record",
        }
        return [
            records.share(ACCURACY, ~records.wrong(records.clean), attack="none", **about | {"share": 0.0}),
            records.share(ACCURACY, ~records.wrong(patched), attack="adversarial_patch", **about),
            records.share(ACCURACY, ~records.wrong(controlled), attack=_CONTROL, **about),
            *self._successes(records, {"adversarial_patch": patched, _CONTROL: controlled}, about),
        ]

    def _why_not(self, subject: Subject) -> tuple[str, ReasonCode]:
        """Returns why no patch can be used, in words and as a code; no words where one can."""
        dataset = subject.dataset
        if dataset.modality not in ("image", "signal"):
            said = f"these records are {dataset.modality}: there is no place to stick a patch on"
            return said, "other_kind_of_records"
        if not len(subject.split.train):
            return "there are no training records to optimise a patch on", "no_records"
        if self.target is not None and self.target >= dataset.classes:
            said = f"target is class {self.target}, and the data set has {dataset.classes}"
            return said, "other_number_of_classes"
        return "", "unspecified"

    def _under(self, records: "_PatchedRecords", *, optimised: bool) -> Tensor:
        """Returns the (n, classes) logits of the test records under a patch, or under that of their class."""
        subject = records.subject
        chosen = subject.chosen(subject.split.train, self.train_records)
        labels = subject.dataset.y[chosen]
        patched = records.x.clone()
        for label in range(subject.dataset.classes) if self.target is None else [None]:
            own = chosen[labels == label] if label is not None else chosen[labels != self.target]
            rows = torch.arange(len(records.y)) if label is None else (records.y.cpu() == label).nonzero().squeeze(1)
            if not len(rows) or not len(own):
                continue
            x, y = subject.records(own)
            generator = seeds.stream(subject.seed, "patch" if optimised else "noise patch", str(label))
            if optimised:
                bounds = subject.bounds
                patch = self.patch.optimised(subject.model, x, y, bounds, target=self.target, generator=generator)
            else:
                patch = self.patch.noise(x, subject.bounds, generator)
            records.lay(patch, patched, rows.to(patched.device))
        return respond(subject.model, patched)

    def _hit(self, records: "_PatchedRecords", answers: Tensor) -> Tensor:
        """Returns which of the vulnerable records were fooled, (m,) bool."""
        if self.target is None:
            return records.wrong(answers)[records.could_be_fooled(None)]
        reached = records.subject.task.reaches(self.target)(answers, records.y)
        return reached[records.could_be_fooled(self.target)]

    def _successes(
        self, records: "_PatchedRecords", answers: dict[str, Tensor], about: dict[str, Any]
    ) -> list[Finding]:
        """Returns the share of the vulnerable records that were fooled, and whether optimisation helped."""
        open_ = records.could_be_fooled(self.target)
        if not bool(open_.any()):
            why = "the model classifies no record that the patch could change correctly to begin with"
            return [not_applicable(SUCCESS, why, reason="nothing_right", attack=name, **about) for name in answers]
        hits = {name: self._hit(records, said) for name, said in answers.items()}
        found = [records.share(SUCCESS, hit, among=open_, attack=name, **about) for name, hit in hits.items()]
        return [*found, patch_beats_noise(hits["adversarial_patch"], hits[_CONTROL])]


@dataclass(frozen=True, kw_only=True)
class _PatchedRecords:
    """A model, its test records, and the place of the patch on each."""

    subject: Subject
    rows: np.ndarray
    x: Tensor
    y: Tensor
    places: Places
    clean: Tensor
    """(n, classes) logits without a patch."""

    @classmethod
    def of(cls, subject: Subject, patch: AdversarialPatch, rows: np.ndarray) -> "_PatchedRecords":
        x, y = subject.records(rows)
        places = patch.places(x, seeds.stream(subject.seed, "patch places"))
        return cls(subject=subject, rows=rows, x=x, y=y, places=places, clean=respond(subject.model, x))

    def lay(self, patch: Tensor, patched: Tensor, rows: Tensor) -> None:
        """Puts the patch on some of the records, in ``patched``."""
        for part in batches(len(rows), tuple(self.x.shape[1:])):
            own = rows[part]
            patched[own] = stuck(self.x[own], patch, self.places.of(own), self.subject.bounds)

    def wrong(self, answers: Tensor) -> Tensor:
        return self.subject.wrong(answers, self.y)

    def could_be_fooled(self, target: int | None) -> Tensor:
        """Returns which records are right without a patch, and not of the target class."""
        right = ~self.wrong(self.clean)
        return right if target is None else right & (self.y != target)

    def share(self, name: str, hits: Tensor, *, among: Tensor | None = None, **about: Any) -> Measurement:
        groups = self.subject.clusters(self.rows if among is None else self.rows[among.cpu().numpy()])
        return share(name, hits.cpu().numpy(), groups, **about)


def patch_beats_noise(hit: Tensor, blank: Tensor) -> Check:
    """Checks that an optimised patch fools more records than one of random values at the same places.

    If the random patch fools every record, the check passes. Otherwise a sign test on the records that only one of the
    two fooled decides (p < 0.05).

    Args:
        hit: (m,) bool, records that the patch fooled.
        blank: (m,) bool, records that the random one fooled.

    Returns:
        The check.
    """
    better, worse = int((hit & ~blank).sum()), int((blank & ~hit).sum())
    by_chance = float(stats.binom.sf(better - 1, better + worse, 0.5))
    ours, theirs = (float(fooled.double().mean()) for fooled in (hit, blank))
    return Check(
        rule="patch_beats_noise",
        concerns=ACCURACY,
        verdict="pass" if bool(blank.all()) or by_chance < 0.05 else "warn",
        figure=ours - theirs,
        message=f"the patch fools {ours:.1%} and a patch of random values {theirs:.1%} of the records at the same "
        f"places (sign test: p = {by_chance:.2g}, limit 0.05): the optimiser found nothing, and the accuracy shows no "
        "robustness; raise steps or share",
        conditions={"attack": "adversarial_patch"},
    )
