"""Checks of an audit on every step of its training: clipping, noise, sampling and steps of the trainer.

Canaries bound ε as a whole; these checks examine each tensor and each step, where a bug may not affect canaries.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from assay.privacy.accounting import Mechanism, rdp_epsilon
from assay.privacy.noise_levels import NEGLIGIBLE, least_noise
from assay.privacy.step_tests import StepTest, gaussian_noise, noise_knows_records, surest
from assay.results import Check, Verdict
from assay.training.recorder import PrivateRunRecorder

_CLIPPED = 1.005
"""Clipping norms by which one record may change a sum; a larger change is not rounding."""
_OWN_GRADIENT = 0.02
"""Clipping norms by which a record's contribution may differ from its clipped gradient: far more than rounding."""
_REPLAYED = 1e-5
"""Share of the weights by which a training from the releases alone may differ: rounding."""
_SHOWN = 1 / 3
"""Share of the claimed noise that must be detectable if a tensor has no more; otherwise its numbers are too few."""
_TESTS = 4
"""Number of checks that can fail by chance, which share the significance."""


@dataclass(frozen=True, kw_only=True)
class TrainerChecks:
    """Inputs of the checks of a trainer."""

    recorder: PrivateRunRecorder
    mechanism: Mechanism
    """The claimed mechanism of all stages together."""
    conditions: Mapping[str, Any]
    significance: float
    """Probability with which any of the checks rejects a correct trainer, at most."""

    def all(self) -> list[Check]:
        """Runs all checks; one without observations is inconclusive, never a pass."""
        if self.recorder.noise is None or self.recorder.batches is None or not self.recorder.noise.steps:
            why = "inconclusive: training took no step that could be looked at"
            return [self._check("steps_as_claimed", "warn", float(self.recorder.steps), why)]
        return [
            self._one_record(),
            self._noise_in_every_tensor(),
            self._noise_independent(),
            self._noise_gaussian(),
            self._poisson_sampling(),
            self._steps(),
            self._weights(),
        ]

    @property
    def _claim(self) -> float:
        return rdp_epsilon(self.mechanism)

    @property
    def _alpha(self) -> float:
        return self.significance / _TESTS

    def _one_record(self) -> Check:
        """Checks the difference of two sums, with and without a record, over all tensors: privacy bounds it."""
        seen, rule = self.recorder, "one_record_bounded"
        if not seen.differences:
            why = "inconclusive: no batch that was looked at held a record that could be taken out of it"
            return self._check(rule, "warn", 0.0, why)
        said = (
            f"one record, taken out of a batch {seen.differences} times, moves the clipped sum of all tensors by at "
            f"most {seen.longest:.4g} clipping norms"
        )
        if seen.longest > _CLIPPED:
            return self._check(rule, "fail", seen.longest, f"{said}: more than the 1 that the noise is for")
        if seen.farthest > _OWN_GRADIENT:
            said += (
                f", but by {seen.farthest:.3g} clipping norms otherwise than its own clipped gradient: "
                "the sum is not that of clipped gradients"
            )
            return self._check(rule, "fail", seen.farthest, said)
        return self._check(rule, "pass", seen.longest, said)

    def _noise_in_every_tensor(self) -> Check:
        noise = self.recorder.noise
        assert noise is not None
        rule, tensors = "noise_in_every_tensor", noise.tensors()
        least = least_noise([tensors, noise.single_steps()], self.mechanism, significance=self._alpha)
        assert least is not None
        if least.epsilon > self._claim * NEGLIGIBLE:
            said = f"{least.where} has at most {least.share:.3g} of the claimed noise, which allows "
            said += f"ε = {least.epsilon:.4g}; {self._claim:.4g} is claimed"
            return self._check(rule, "fail", least.share, said)
        bounds = tensors.at_least(self._alpha / len(tensors))
        place = int(bounds.argmin())
        said = (
            f"every tensor has noise, {tensors.name(place)} at least {bounds[place]:.3g} of what is claimed and all "
            f"together {bounds[-1]:.3g}: too little by less would not have shown"
        )
        if _told_apart(int(tensors.counts[place]), self._alpha / len(tensors)) < _SHOWN:
            said = f"inconclusive: {said}; {tensors.name(place)} gave {tensors.counts[place]} numbers, take more steps"
            return self._check(rule, "warn", float(bounds[place]), said)
        return self._check(rule, "pass", float(bounds[place]), said)

    def _noise_independent(self) -> Check:
        """Checks that noise cannot be subtracted and does not depend on the records."""
        noise, batches, rule = self.recorder.noise, self.recorder.batches, "noise_independent"
        assert noise is not None
        assert batches is not None
        directions = [*noise.between_steps(), *noise.between_coordinates(), noise.between_tensors()]
        least = least_noise(directions, self.mechanism, significance=self._alpha / 2)
        if least is not None and least.epsilon > self._claim * NEGLIGIBLE:
            said = (
                f"noise is not independent: {least.where} has at most {least.share:.3g} of the claimed noise, which "
                f"allows ε = {least.epsilon:.4g}; {self._claim:.4g} is claimed"
            )
            return self._check(rule, "fail", least.share, said)
        expected = self.mechanism.sample_rate * batches.records
        test, p = surest(noise_knows_records(noise, batches.sizes[: noise.steps], expected=expected))
        said = (
            "noise depends neither on the clipped sum, nor on the size of a batch, nor on the noise of other tensors, "
            f"steps or coordinates: of {sum(map(len, directions))} groups of directions none has too little"
        )
        return self._tested(rule, test, p, 2, said)

    def _noise_gaussian(self) -> Check:
        assert self.recorder.noise is not None
        tests = gaussian_noise(self.recorder.noise)
        if not tests:
            why = "inconclusive: there is no noise whose distribution could be looked at"
            return self._check("noise_gaussian", "warn", 0.0, why)
        test, p = surest(tests)
        said = f"the noise is normal as far as {len(tests)} tests can see, the surest of them with p = {p:.2g}"
        return self._tested("noise_gaussian", test, p, 1, said)

    def _poisson_sampling(self) -> Check:
        batches, rate, rule = self.recorder.batches, self.mechanism.sample_rate, "poisson_sampling"
        assert batches is not None
        if batches.repeated:
            said = f"batches held a record more than once, {batches.repeated} times: its gradient is clipped once each"
            return self._check(rule, "fail", float(batches.repeated), said)
        tests = batches.poisson(rate)
        if not tests:
            return self._check(rule, "pass", 1.0, "every batch may hold all records, so none is drawn by chance")
        test, p = surest(tests)
        said = f"batches are as Poisson sampling at the claimed rate of {rate:.4g} makes them, by {len(tests)} tests"
        return self._tested(rule, test, p, 1, said)

    def _steps(self) -> Check:
        counted, claimed = self.recorder.steps, self.mechanism.steps
        said = f"training took {counted} steps, and {claimed} are accounted for"
        if counted > claimed:
            return self._check("steps_as_claimed", "fail", float(counted), f"{said}: the others cost ε, too")
        return self._check("steps_as_claimed", "pass", float(counted), said)

    def _weights(self) -> Check:
        apart = self.recorder.unexplained
        said = f"torch's own optimizer makes of the released gradients alone the same weights, to {apart:.2g} of them"
        verdict: Verdict = "pass"
        if apart > _REPLAYED:
            verdict = "fail"
            said = (
                f"weights differ by {apart:.2g} of the largest from those that the released gradients lead to: "
                "something else reaches them, past the noise"
            )
        return self._check("weights_follow_releases", verdict, apart, said)

    def _tested(self, rule: str, test: StepTest, p: float, parts: int, otherwise: str) -> Check:
        """Fails where a test is more significant than its part of the significance allows."""
        if p < self._alpha / parts:
            return self._check(rule, "fail", test.figure, f"the data show that {test.what} (p = {p:.2g})")
        return self._check(rule, "pass", test.figure, otherwise)

    def _check(self, rule: str, verdict: Verdict, figure: float, message: str) -> Check:
        return Check(
            rule=rule,
            concerns="epsilon_audited",
            verdict=verdict,
            figure=figure,
            message=message,
            conditions=dict(self.conditions),
        )


def _told_apart(count: int, significance: float) -> float:
    """Returns the least share of the claimed noise that can typically be distinguished with this many numbers."""
    return float(np.sqrt(count / stats.chi2.isf(significance, count)))
