"""How does the model stand up to a sticker in the field of view, wherever it lies?"""

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
from assay.evaluations.base import Evaluation, Subject, share
from assay.metrics import Chosen, Metric, ScorecardColumn, in_percent
from assay.models.batches import places as batches
from assay.models.batches import respond
from assay.registry import register
from assay.results import Check, Finding, Measurement, ReasonCode, not_applicable

ACCURACY, SUCCESS = "patch_accuracy", "patch_success"
_CONTROL = "random_patch"


@register("evaluation")
class PatchRobustness(Evaluation):
    """Accuracy under a patch that was optimised on training records, at fresh places on the test records.

    Without a target the attacker knows the diagnosis and has one patch for each class, to make its records err; with
    one, a single patch is to make the model answer that class. Places are drawn, never chosen: the figure is a mean
    over them, not a worst case. A patch of random values lies at the same places, for comparison.
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
    """The class that every other record is to be taken for; None for any wrong answer."""
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
        scene = _Scene.of(subject, self.patch, self.sample(subject))
        patched = self._under(scene, optimised=True)
        controlled = self._under(scene, optimised=False)
        about = {
            **self.patch.model_dump(),
            "target": "any wrong class" if self.target is None else subject.dataset.class_names[self.target],
            "places": "drawn uniformly for each record",
        }
        return [
            scene.share(ACCURACY, ~scene.wrong(scene.clean), attack="none", **about | {"share": 0.0}),
            scene.share(ACCURACY, ~scene.wrong(patched), attack="adversarial_patch", **about),
            scene.share(ACCURACY, ~scene.wrong(controlled), attack=_CONTROL, **about),
            *self._successes(scene, {"adversarial_patch": patched, _CONTROL: controlled}, about),
        ]

    def _why_not(self, subject: Subject) -> tuple[str, ReasonCode]:
        """Why no patch can be tried, in words and as a code; no words where one can."""
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

    def _under(self, scene: "_Scene", *, optimised: bool) -> Tensor:
        """(n, classes) logits of the test records under a patch, that of their class if each class has its own."""
        subject = scene.subject
        chosen = subject.chosen(subject.split.train, self.train_records)
        labels = subject.dataset.y[chosen]
        patched = scene.x.clone()
        for label in range(subject.dataset.classes) if self.target is None else [None]:
            own = chosen[labels == label] if label is not None else chosen[labels != self.target]
            rows = torch.arange(len(scene.y)) if label is None else (scene.y.cpu() == label).nonzero().squeeze(1)
            if not len(rows) or not len(own):
                continue
            x, y = subject.records(own)
            generator = seeds.stream(subject.seed, "patch" if optimised else "noise patch", str(label))
            if optimised:
                bounds = subject.bounds
                patch = self.patch.optimised(subject.model, x, y, bounds, target=self.target, generator=generator)
            else:
                patch = self.patch.noise(x, subject.bounds, generator)
            scene.lay(patch, patched, rows.to(patched.device))
        return respond(subject.model, patched)

    def _hit(self, scene: "_Scene", answers: Tensor) -> Tensor:
        """Which of the records that could be fooled were, (m,) bool."""
        if self.target is None:
            return scene.wrong(answers)[scene.could_be_fooled(None)]
        reached = scene.subject.task.reaches(self.target)(answers, scene.y)
        return reached[scene.could_be_fooled(self.target)]

    def _successes(self, scene: "_Scene", answers: dict[str, Tensor], about: dict[str, Any]) -> list[Finding]:
        """Shares of the records that could be fooled and were, and whether the optimiser was worth its while."""
        open_ = scene.could_be_fooled(self.target)
        if not bool(open_.any()):
            why = "the model classifies no record that the patch could change correctly to begin with"
            return [not_applicable(SUCCESS, why, reason="nothing_right", attack=name, **about) for name in answers]
        hits = {name: self._hit(scene, said) for name, said in answers.items()}
        found = [scene.share(SUCCESS, hit, among=open_, attack=name, **about) for name, hit in hits.items()]
        return [*found, patch_beats_noise(hits["adversarial_patch"], hits[_CONTROL])]


@dataclass(frozen=True, kw_only=True)
class _Scene:
    """One model, its test records, and where a patch lies on each."""

    subject: Subject
    rows: np.ndarray
    x: Tensor
    y: Tensor
    places: Places
    clean: Tensor
    """(n, classes) logits without a patch."""

    @classmethod
    def of(cls, subject: Subject, patch: AdversarialPatch, rows: np.ndarray) -> "_Scene":
        x, y = subject.records(rows)
        places = patch.places(x, seeds.stream(subject.seed, "patch places"))
        return cls(subject=subject, rows=rows, x=x, y=y, places=places, clean=respond(subject.model, x))

    def lay(self, patch: Tensor, patched: Tensor, rows: Tensor) -> None:
        """Put the patch on some of the records, in ``patched``."""
        for part in batches(len(rows), tuple(self.x.shape[1:])):
            own = rows[part]
            patched[own] = stuck(self.x[own], patch, self.places.of(own), self.subject.bounds)

    def wrong(self, answers: Tensor) -> Tensor:
        return self.subject.wrong(answers, self.y)

    def could_be_fooled(self, target: int | None) -> Tensor:
        """Which records are right to begin with, and not of the class that is aimed at."""
        right = ~self.wrong(self.clean)
        return right if target is None else right & (self.y != target)

    def share(self, name: str, hits: Tensor, *, among: Tensor | None = None, **about: Any) -> Measurement:
        groups = self.subject.clusters(self.rows if among is None else self.rows[among.cpu().numpy()])
        return share(name, hits.cpu().numpy(), groups, **about)


def patch_beats_noise(hit: Tensor, blank: Tensor) -> Check:
    """An optimised patch must fool more records than one of random values at the same places, by more than chance.

    Where the random one fools every record there is nothing to beat. Else a sign test on the records that fell to one
    of the two alone decides (p < 0.05).

    Args:
        hit: (m,) bool, records that the patch fooled.
        blank: (m,) bool, records that the random one fooled.
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
