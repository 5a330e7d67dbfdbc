"""Is training as private as it claims to be? A lower bound on ε from a training with canaries, beside the claim."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from assay import seeds
from assay.data.base import Dataset
from assay.errors import TrainingError, UserError
from assay.evaluations.base import Evaluation, Subject
from assay.evaluations.pool import confidence
from assay.objectives.base import Objective
from assay.privacy.accounting import Mechanism, rdp_epsilon
from assay.privacy.auditing import Audited, Moved, audited, canaries_needed, log_likelihood_ratio, moved
from assay.recipes import Privacy, Recipe
from assay.registry import register
from assay.results import Check, Finding, Measurement, Verdict, not_applicable
from assay.training.canaries import Numbered, Planted, numbered_bounds
from assay.training.feed import Decoded, Feed, InMemory
from assay.training.loop import Trainer

Watch = Callable[[int, int], None]
"""Told of finished epochs, and of how many there are."""
_TABLES_A_LAYER = 3
_SIGNIFICANCE = 1e-3
"""Of the check of clipping."""
_TOLERANCE = 0.01
"""Of the check of clipping: far more than rounding."""
_BY_LAYER = 0.5
"""The same where layers are clipped each by itself, and are only about as many as are counted here."""


@register("evaluation")
class Audit(Evaluation):
    """One-run auditing (Steinke et al. 2023, arXiv:2305.08846): the recipe is trained once more, with canaries.

    A fair coin decides of each canary whether it is among the training records, training runs as it always does, and
    from what it released an auditor guesses how the coins fell. What ``privacy.auditing`` concludes is a lower bound on
    the ε of the *trainer*, of a run of its own: never a measurement of the model that is evaluated, nor of what a real
    patient risks. A bound above the claim is a bug in the trainer, or bad luck at the stated probability.

    ``gradient``: the auditor reads every noisy gradient, as the guarantee lets him, and the gradient of a canary is as
    long as clipping allows, in a direction of its own (``training.canaries``). That is the threat which ε is
    about, and finds most. ``input``: canaries are records that were held out, with wrong labels, and the auditor asks
    the last model alone how much surer of them it has become. That is what somebody with the model can do, and finds
    little.

    How many canaries are guessed is laid down beforehand (``shares``); every number is tried, each at its part of the
    confidence. Noise is drawn from the seed even for a recipe with ``noise: entropy``: the run is kept by nobody.

    In gradient space it is known, too, how far a canary should move a step: by the clipping norm. Where it moves it by
    less, the guesses show too little, whatever the trainer does to real records: the sum of a batch may be clipped and
    not each record. A check of its own looks at that.

    A check that could not have failed, since the canaries are too few for the noise, is inconclusive: it warns.
    """

    name: Literal["audit"] = "audit"
    canaries: int = Field(default=1000, ge=10)
    """Records that may be in or out; in ``input`` space no more than there are held out."""
    space: Literal["gradient", "input"] = "gradient"
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """That the bound holds, and those of all other ``audits`` with it."""
    audits: Annotated[int, Field(ge=1)] | None = None
    """Audits that are run and read together, this one included: of other recipes, folds or seeds. By default as many as
    the study asks, which refuses a smaller number; 1 outside of a study."""
    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(default=(0.1, 1.0), min_length=1)
    """Of the canaries, how many are guessed. Few sure guesses show most of a sound trainer, many of a broken one."""

    def forecast(self, records: int) -> str:
        return f"{self.name}: one more training of every recipe that can be audited, with {self.canaries} canaries"

    def measure(self, subject: Subject) -> Sequence[Finding]:
        return self.run(subject)

    def run(self, subject: Subject, watch: Watch | None = None) -> list[Finding]:
        """The same, and ``watch`` is told how far training has come."""
        about = {
            "attack": f"canaries in {self.space} space",
            "space": self.space,
            "confidence": self.confidence,
            "audits": self.together,
            "shares": list(self.shares),
            "run": "a training of its own with canaries, never the model that is evaluated",
        }
        if why := self._why_not(subject):
            return [not_applicable("epsilon_audited", why, canaries=self.canaries, **about)]
        about_all = {"canaries": self.canaries, **about}
        try:
            evidence = (_in_gradients if self.space == "gradient" else _in_inputs)(self, subject, watch)
        except UserError as error:
            # With canaries there are more records, and δ may no longer be below one in their number.
            return [not_applicable("epsilon_audited", f"with canaries: {error}", **about_all)]
        except TrainingError as error:
            why = f"training with canaries failed: {error}"
            return [Measurement(name="epsilon_audited", status="failed", conditions=about_all, warnings=(why,))]
        if not np.isfinite(evidence.scores).all():
            why = "training with canaries ended in scores that are no numbers"
            return [Measurement(name="epsilon_audited", status="failed", conditions=about_all, warnings=(why,))]
        assert subject.recipe is not None
        delta = (subject.recipe.privacy or Privacy(epsilon=1.0)).delta
        found = audited(
            evidence.scores,
            evidence.inside,
            shares=self.shares,
            delta=delta,
            confidence=self.confidence,
            audits=self.together,
        )
        claim = math.inf if evidence.mechanism is None else rdp_epsilon(evidence.mechanism)
        return [
            Measurement(
                name="epsilon_audited",
                value=found.epsilon,
                unit="epsilon",
                n=len(evidence.scores),
                conditions={**about, **_conditions(evidence, found, claim, delta)},
                warnings=(*_cautions(subject), *evidence.notes),
            ),
            self._below_claim(found, claim, about),
            *([self._clipped_alone(evidence, subject.recipe, about)] if self.space == "gradient" else []),
        ]

    @property
    def together(self) -> int:
        """Audits that share the confidence."""
        return self.audits or 1

    def why_never(self, recipe: Recipe) -> str:
        """Why a recipe cannot be audited, whatever the records; empty where it may."""
        if any(treatment.treats for treatment in recipe.data):
            return "treatments of all training records together would change or drop the canaries"
        if self.space == "gradient" and recipe.privacy is None:
            return (
                "the recipe is not private: gradients are clipped to nothing, and a canary as long as one likes shows "
                "nothing that was not known; ask in space: input"
            )
        return ""

    def _why_not(self, subject: Subject) -> str:
        """Why nothing can be audited here; empty where it can."""
        recipe = subject.recipe
        if recipe is None or subject.network is None:
            return "an audit trains the recipe with canaries, and nothing can be trained here"
        if why := self.why_never(recipe):
            return why
        if self.space == "input":
            held = len(_held_out(subject))
            return "" if held >= 10 else f"canaries are records that were held out, and there are {held}: 10 are needed"
        if subject.dataset.tokens is not None:
            changes = [step.name for step in recipe.data if step.augments]
            changes += [one.name for one in (*recipe.objective.teachers, recipe.objective) if _crafts(one)]
            if changes:
                return f"{changes[0]} changes words, and the number of a canary stands among them; ask in space: input"
        return ""

    def _below_claim(self, found: Audited, claim: float, about: dict[str, Any]) -> Check:
        said = f"the audit shows that ε is at least {found.epsilon:.3f}, and {claim:.3f} is claimed"
        verdict: Verdict = "pass"
        if found.epsilon > claim:
            verdict = "fail"
            said += f": a bug in the trainer, or bad luck with probability at most {1 - self.confidence:.3g}"
        elif math.isinf(claim):
            said = f"the audit shows that ε is at least {found.epsilon:.3f}, and nothing is claimed"
        elif found.most <= claim:
            verdict = "warn"
            needed = canaries_needed(claim, significance=(1 - self.confidence) / (self.together * len(self.shares)))
            said = (
                f"inconclusive: even if every guess were right the bound would be {found.most:.2f}, and {claim:.2f} is "
                f"claimed: no bug could show; take {needed} canaries or more"
            )
        return _check("audit_below_claim", verdict, found.epsilon, said, about)

    def _clipped_alone(self, evidence: "_Evidence", recipe: Recipe, about: dict[str, Any]) -> Check:
        """A batch that is clipped as a whole leaves next to nothing of a canary: that, at least, must be seen."""
        rule, moved, canaries = "clipped_record_by_record", evidence.moved, len(evidence.scores)
        if moved is None:
            said = f"inconclusive: of {canaries} canaries fewer than two are in, or fewer than two are out; take more"
            return _check(rule, "warn", 0.0, said, about)
        by_layer = recipe.privacy is not None and recipe.privacy.clipping == "per_layer"
        tolerance, chance = _BY_LAYER if by_layer else _TOLERANCE, moved.margin(_SIGNIFICANCE / self.together)
        said = (
            f"a canary moves the sum of a batch by {moved.share:.3f} ± {moved.error:.3f} of what clipping leaves of it"
        )
        verdict: Verdict = "pass"
        if abs(moved.share - 1) > tolerance + chance:
            verdict = "fail"
            said += ": gradients are not clipped record by record, or not to the clipping norm that the noise is for"
        elif tolerance + chance >= 1:
            verdict = "warn"
            needed = math.ceil(canaries * (chance / (1 - tolerance)) ** 2)
            said = f"inconclusive: {said}, which would not show if it moved nothing; take about {needed} canaries"
        return _check(rule, verdict, moved.share, said, about)


def _check(rule: str, verdict: Verdict, figure: float, said: str, about: dict[str, Any]) -> Check:
    return Check(
        rule=rule,
        concerns="epsilon_audited",
        verdict=verdict,
        figure=figure,
        message=said,
        conditions={"attack": about["attack"]},
    )


@dataclass(frozen=True, kw_only=True)
class _Evidence:
    """What one training with canaries left behind."""

    scores: np.ndarray
    """(m,)"""
    inside: np.ndarray
    """(m,) bool."""
    mechanism: Mechanism | None
    """Of all stages together; None if nothing is private."""
    records: int
    """Real ones."""
    moved: Moved | None = None
    """None where it is not known what a canary should move, or fewer than two are in, or out."""
    notes: tuple[str, ...] = ()


def _in_gradients(settings: Audit, subject: Subject, watch: Watch | None) -> _Evidence:
    """Scores from what every step released along the direction of each canary, over all stages of the recipe."""
    dataset, rows = subject.dataset, subject.split.train
    inside = _coins(subject, settings.canaries)
    recipe = _audited_recipe(subject, canaries=int(inside.sum()))
    assert recipe.privacy is not None
    feed = Planted(_feed(dataset, dataset.y, rows, subject.device), np.flatnonzero(inside) + 1)
    y = feed.labels(torch.from_numpy(dataset.y[rows]).to(subject.device))
    words = dataset.tokens is not None
    bounds = dataset.bounds if words else numbered_bounds(dataset.bounds, dataset.shape, canaries=settings.canaries)
    scores, sums, expected = np.zeros(settings.canaries), np.zeros(settings.canaries), 0.0

    def network(stage: int) -> Numbered:
        assert subject.network is not None
        bare = subject.network()
        tables = _TABLES_A_LAYER * _layers(bare) if recipe.privacy and recipe.privacy.clipping == "per_layer" else 1
        made = Numbered(
            bare,
            canaries=settings.canaries,
            classes=dataset.classes,
            max_grad_norm=recipe.privacy.max_grad_norm if recipe.privacy else 1.0,
            tables=tables,
            stage=stage,
        )
        return made.to(subject.device)

    def listen(trainer: Trainer) -> None:
        assert isinstance(trainer.model, Numbered)
        model, mechanism = trainer.model, trainer.mechanism
        assert mechanism is not None
        assert recipe.privacy is not None
        norms = mechanism.sample_rate * trainer.records / recipe.privacy.max_grad_norm
        tables = len(model.tables)
        signal = math.sqrt(tables / (tables + _layers(model.network))) if tables > 1 else 1.0

        def read(*_: Any) -> None:
            nonlocal scores, sums, expected
            released = norms * model.released().double().cpu().numpy()
            sums, expected = sums + released, expected + mechanism.sample_rate * signal
            scores = scores + log_likelihood_ratio(
                released,
                signal=signal,
                noise_multiplier=mechanism.noise_multiplier,
                sample_rate=mechanism.sample_rate,
            )

        trainer.optimizer.register_step_pre_hook(read)

    mechanism = _train(subject, recipe, feed, y, bounds=bounds, network=network, listen=listen, watch=watch)[1]
    return _Evidence(
        scores=scores,
        inside=inside,
        mechanism=mechanism,
        records=len(rows),
        moved=moved(sums, inside, expected=expected) if min(inside.sum(), (~inside).sum()) > 1 else None,
    )


def _in_inputs(settings: Audit, subject: Subject, watch: Watch | None) -> _Evidence:
    """Scores from how much surer the last model is of each canary's wrong label than the first one was."""
    dataset, held = subject.dataset, _held_out(subject)
    generator = seeds.stream(subject.seed, "audit", "canaries")
    rows = np.sort(generator.permutation(held)[: settings.canaries])
    y = dataset.y.copy()
    y[rows] = (y[rows] + generator.integers(1, dataset.classes, len(rows))) % dataset.classes
    inside = _coins(subject, len(rows))
    recipe = _audited_recipe(subject, canaries=int(inside.sum()))
    learnt_from = np.concatenate([subject.split.train, rows[inside]])
    feed = _feed(dataset, y, learnt_from, subject.device)
    labels = torch.from_numpy(y[learnt_from]).to(subject.device)
    mistaken = replace(subject, dataset=replace(dataset, y=y))

    def network(stage: int) -> nn.Module:
        assert subject.network is not None
        return subject.network().to(subject.device)

    model, mechanism = _train(subject, recipe, feed, labels, bounds=dataset.bounds, network=network, watch=watch)
    first = network(0).eval()
    scores = confidence(replace(mistaken, model=model), rows) - confidence(replace(mistaken, model=first), rows)
    fewer = (
        f"{len(rows)} records were held out, so there are no more canaries than these; asked for {settings.canaries}"
    )
    return _Evidence(
        scores=scores,
        inside=inside,
        mechanism=mechanism,
        records=len(subject.split.train),
        notes=(fewer,) if len(rows) < settings.canaries else (),
    )


def _train(
    subject: Subject,
    recipe: Recipe,
    feed: Feed,
    y: Tensor,
    *,
    bounds: Any,
    network: Callable[[int], nn.Module],
    listen: Callable[[Trainer], None] | None = None,
    watch: Watch | None = None,
) -> tuple[nn.Module, Mechanism | None]:
    """The recipe, its teachers first, by the trainer that trains all models; the last network, and all that was spent.

    Args:
        network: makes the one of a stage, numbered from 0.
        listen: is handed the trainer of each stage before it starts.
    """
    model: nn.Module | None = None
    spent: Mechanism | None = None
    stages = recipe.stages()
    assert subject.recipe is not None
    passes = subject.recipe.passes
    for number, stage in enumerate(stages):
        trainer = Trainer(
            network(number),
            stage,
            feed,
            y,
            bounds=bounds,
            seed=seeds.derive(subject.seed, "audit"),
            stage="" if number + 1 == len(stages) else f"teacher {number + 1}",
            classes=subject.dataset.classes,
            epochs=passes,
            teacher=model,
        )
        if listen is not None:
            listen(trainer)
        done = number * passes

        def told(trainer: Trainer, done: int = done) -> None:
            if watch is not None:
                watch(done + trainer.epoch, passes * len(stages))

        trainer.run(after_epoch=told)
        trainer.close()
        model, own = trainer.model, trainer.mechanism
        spent = own if spent is None or own is None else spent.then(own)
    assert model is not None
    return model.eval(), spent


def _audited_recipe(subject: Subject, *, canaries: int) -> Recipe:
    """In one place, to the end, with noise that can be drawn again.

    Batches grow with the records, so that as many steps draw a record with the same probability as without canaries.
    """
    recipe, records = subject.recipe, len(subject.split.train)
    assert recipe is not None
    batch_size = math.ceil(recipe.training.batch_size * (records + canaries) / records)
    return recipe.model_copy(
        update={
            "federation": None,
            "privacy": recipe.privacy and recipe.privacy.model_copy(update={"noise": "seeded"}),
            "training": recipe.training.model_copy(update={"early_stopping": None, "batch_size": batch_size}),
        }
    )


def _coins(subject: Subject, canaries: int) -> np.ndarray:
    return np.asarray(seeds.stream(subject.seed, "audit", "coins").random(canaries) < 0.5)


def _held_out(subject: Subject) -> np.ndarray:
    return np.concatenate([subject.split.test, subject.split.validation, subject.split.calibration])


def _feed(dataset: Dataset, y: np.ndarray, rows: np.ndarray, device: torch.device) -> Feed:
    if isinstance(dataset.x, np.ndarray):
        return InMemory(torch.from_numpy(dataset.x[rows]).to(device), torch.from_numpy(y[rows]).to(device))
    return Decoded(dataset.x, y, rows, device=device)


def _layers(model: nn.Module) -> int:
    """About as many as clipping by layer tells apart."""
    return sum(any(p.requires_grad for p in layer.parameters(recurse=False)) for layer in model.modules())


def _crafts(objective: Objective) -> bool:
    return type(objective).craft is not Objective.craft


def _conditions(evidence: _Evidence, found: Audited, claim: float, delta: float) -> dict[str, Any]:
    mechanism = evidence.mechanism
    about: dict[str, Any] = {
        "canaries": len(evidence.scores),
        "included": int(evidence.inside.sum()),
        "records": evidence.records,
        "guesses": found.guesses,
        "correct": found.correct,
        "delta": delta,
        "claimed_epsilon": None if math.isinf(claim) else claim,
        "most": found.most,
    }
    if mechanism is not None:
        about |= {
            "noise_multiplier": mechanism.noise_multiplier,
            "sample_rate": mechanism.sample_rate,
            "steps": mechanism.steps,
        }
    return about


def _cautions(subject: Subject) -> list[str]:
    recipe, said = subject.recipe, []
    assert recipe is not None
    if recipe.federation is not None:
        said.append("the recipe was audited in one place, with all records together, not at its clients")
    if recipe.training.early_stopping is not None:
        said.append("the recipe was audited without early stopping")
    return said
