"""Is a map better than controls, and how near to the best order that is known? Findings of the primary endpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay import intervals, seeds
from assay.evaluations.explanation_metrics import P_VALUE, PAIRS_AGREED, SCALED, SHARE
from assay.evaluations.explanation_orders import orders
from assay.evaluations.explanation_verdicts import ALPHA, LEAST_ROOM, Scores, Verdict, placed, strongest, verdicts
from assay.evaluations.shares import estimated
from assay.explain.measures.base import MeasuredMap
from assay.explain.measures.controls.base import Control
from assay.explain.measures.curves import Areas
from assay.explain.measures.panel import Panel, mean_between
from assay.intervals import Interval
from assay.results import Check, Finding, Measurement, not_applicable

_AGREE = 0.7
"""Least share of the pairs of methods that replacements tell apart and do not contradict."""
_FEWEST_METHODS = 3
"""Methods that are needed before their order by two replacements can be compared."""
_ROUNDING = 0.01
"""Share of the change by which two methods must differ where there is no room above the controls."""
_NO_CHANGE = 64
"""Units in the last place of the answers below which removing all features changes nothing."""
PANEL = "panel"


@dataclass(frozen=True, kw_only=True)
class ExplainedMap:
    """The map of a method with what is said of it."""

    about: Mapping[str, Any]
    """Conditions: the method with its settings."""
    map: MeasuredMap


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """Scores of a method and its controls by record, shares of the change over the panel."""

    about: Mapping[str, Any]
    own: np.ndarray
    by_replacement: dict[str, np.ndarray]
    controls: dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Gains:
    """Measures maps of the same records by the area between the curves, their primary endpoint."""

    panel: Panel
    clusters: np.ndarray | None
    """(n,) records that count as one."""
    seed: int
    draws: int
    """Bootstrap samples of an interval of a ratio."""

    def findings(self, maps: Sequence[ExplainedMap]) -> list[Finding]:
        """Measures the maps of all methods.

        Args:
            maps: of the same records.

        Returns:
            Areas, gains, controls, the oracle, and the checks.
        """
        if not self._replacements_that_change():
            why = "removing all features changes no answer: there is nothing to explain"
            names = ("faithfulness", "insertion_gain", "deletion_gain")
            return [not_applicable(name, why, reason="inconclusive", **one.about) for one in maps for name in names]
        found: list[Finding] = []
        judged = []
        random = self.panel.measured(self.panel.records.ties)
        for one in maps:
            areas, rows = self._areas(one, random)
            found += rows
            judged.append(self._judged(one, areas))
        searched = _numbers(self.panel.searched())
        found.append(self._share("oracle_area", searched, {"replacement": PANEL}))
        scores = [self._scores(one, searched) for one in judged]
        for each, own, verdict in zip(judged, scores, verdicts(scores, self.clusters), strict=True):
            found += self._compared(each, own, verdict)
        return [*found, *self._panel_agrees(judged, _room(scores))]

    def _replacements_that_change(self) -> bool:
        """Leaves out replacements that change no answer; returns whether any is left."""
        values = self.panel.records.whole.new_zeros(self.panel.records.features.shape)
        eps = _NO_CHANGE * torch.finfo(values.dtype).eps
        found = self.panel.raw(values)
        still = [
            name for name, area in found.items() if float(area.change.max()) <= eps * float(area.whole.abs().max())
        ]
        # A blur changes nothing of a plain image: another replacement may.
        for name in still if len(still) < len(found) else []:
            del self.panel.fills[name]
        return len(still) < len(found)

    def _areas(self, one: ExplainedMap, random: dict[str, Areas]) -> tuple[dict[str, Areas], list[Finding]]:
        """Returns the areas of a map by replacement, and the rows about deletion, insertion and their gains."""
        areas = self.panel.measured(one.map.values)
        rows: list[Finding] = []
        for name, sign in (("deletion", -1), ("insertion", 1)):
            by_name = {key: _numbers(getattr(area, name)) for key, area in areas.items()}
            other = {key: _numbers(getattr(area, name)) for key, area in random.items()}
            for key, values in (*by_name.items(), (PANEL, _mean(by_name))):
                rows.append(self._share(name, values, {**one.about, "replacement": key}))
            gain = sign * (_mean(by_name) - _mean(other))
            about = {**one.about, "replacement": PANEL, "against": "random order"}
            rows.append(self._share(f"{name}_gain", gain, about))
        for key, area in areas.items():
            rows.append(self._share("area_between", _numbers(area.between), {**one.about, "replacement": key}))
        return areas, rows

    def _judged(self, one: ExplainedMap, areas: dict[str, Areas]) -> _Judged:
        controls = {
            control.name: _numbers(self.panel.of_control(control, one.map.values)) for control in self.panel.controls
        }
        return _Judged(
            about=one.about,
            own=_numbers(mean_between(areas)),
            by_replacement={key: _numbers(area.between) for key, area in areas.items()},
            controls=controls,
        )

    def _scores(self, one: _Judged, searched: np.ndarray) -> Scores:
        deciding = {control.name: one.controls[control.name] for control in self.panel.controls if control.decides}
        modality = self.panel.records.reference.modality
        near = frozenset(each.name for each in self.panel.controls if modality in each.near_honest_maps)
        return Scores(own=one.own, controls=deciding, searched=searched, near_honest=near)

    def _compared(self, one: _Judged, scores: Scores, verdict: Verdict) -> list[Finding]:
        """Returns the rows about a map, its controls and its place between the strongest control and the oracle."""
        about = dict(one.about)
        rows: list[Finding] = [self._share("area_between", one.own, {**about, "replacement": PANEL})]
        for name, values in one.controls.items():
            rows.append(self._share("control_area", values, {**about, "control": name}))
        n = len(one.own)
        generator = seeds.stream(self.seed, "bootstrap", "faithfulness")
        scaled = placed(scores, self.clusters, generator=generator, draws=self.draws)
        where = {**about, "endpoint": "area_between"}
        about_control = {**where, "control": strongest(scores)}
        if np.isnan(scaled.value):
            why = "the strongest control is as good as the best order that is known: there is no room to place a map in"
            rows.append(not_applicable("faithfulness", why, reason="inconclusive", **about_control))
        else:
            rows.append(estimated("faithfulness", scaled, n=n, unit=SCALED, conditions=about_control))
        tested = {**where, "control": verdict.control}
        rows.append(Measurement(name="faithfulness_p", value=verdict.p, n=n, unit=P_VALUE, conditions=tested))
        return [*rows, self._better(str(about["method"]), scaled, verdict), *self._blur(one)]

    def _better(self, method: str, scaled: Interval, verdict: Verdict) -> Check:
        """Checks whether a map beats every control.

        It does where it is shown to lie above a tenth of the room between each control and the oracle, and fails to
        where it is shown to lie below that of one. In between nothing is concluded: a control may coincide with what
        the model looks at, and records may be few.
        """
        titles = {each.name: each.title for each in self.panel.controls}
        of_records = {each.name for each in self.panel.controls if not each.of_the_map}
        told = f"inconclusive: neither better than {titles[verdict.control]}, nor shown to be no better"
        told += f"; {verdict.why_undecided}" if verdict.why_undecided else ""
        if verdict.better:
            told = f"the map is better than every control, by more than {LEAST_ROOM:.0%} of the room"
        elif verdict.no_better:
            told = f"the map is no better than {titles[verdict.worst]}"
            told += ", which needs no model: even if it is right, it tells no more" * (verdict.worst in of_records)
        return Check(
            rule="better_than_controls",
            concerns=("faithfulness", "insertion_gain", "deletion_gain"),
            verdict="pass" if verdict.better else "warn" if verdict.no_better else "inconclusive",
            figure=verdict.p,
            message=f"{told} (p = {verdict.p:.3g} that it has more, {verdict.p_no_better:.3g} that it has less than "
            f"{LEAST_ROOM:.0%} of the room to the best known order, both after Holm's correction over methods, limit "
            f"{ALPHA}; {scaled.value:.2f} of the room)",
            conditions={"method": method},
        )

    def _blur(self, one: _Judged) -> list[Finding]:
        """Marks the measure where the blurred map, which knows no more of the model, is better."""
        if self.panel.records.reference.modality == "text":  # what stands beside a word, as a negation, is knowledge
            return []
        blurred: list[Control] = [control for control in self.panel.controls if not control.decides]
        rows: list[Finding] = []
        for control in blurred:
            beyond = intervals.mean(one.controls[control.name] - one.own, self.clusters)
            wins = beyond.interval.low > 0
            told = "scores higher than" if wins else "scores no higher than"
            rows.append(
                Check(
                    rule="blur_does_not_win",
                    concerns="faithfulness",
                    verdict="warn" if wins else "pass",
                    figure=beyond.interval.value,
                    message=f"{control.title} {told} the map, by {beyond.interval.value:+.2f} of the change"
                    + (": the measure rewards smoothness here" if wins else ""),
                    conditions={"method": one.about["method"]},
                )
            )
        return rows

    def _panel_agrees(self, judged: Sequence[_Judged], room: float) -> list[Finding]:
        """Checks that the replacements rank the methods alike; else no method is better than another."""
        if len(judged) < _FEWEST_METHODS:
            why = f"{len(judged)} methods have maps, and {_FEWEST_METHODS} are needed to compare their order"
            return [not_applicable("panel_agreement", why, reason="too_few_records")]
        if len(self.panel.fills) < 2:
            why = "one replacement alone changes the answers, and its order of the methods has none to agree with"
            return [not_applicable("panel_agreement", why, reason="inconclusive")]
        margin = max(LEAST_ROOM * room, _ROUNDING)
        found = orders([one.by_replacement for one in judged], self.clusters, margin=margin)
        agrees = found.agreement >= _AGREE
        names = [" and ".join(str(judged[place].about["method"]) for place in pair) for pair in found.contradicted]
        told = (
            f"pairs of methods that some replacement tells apart by more than {margin:.2f}: {len(found.separated)}, in "
            f"opposite orders by another: {', '.join(names) or 'none'}"
        )
        start = "" if agrees else "the replacements rank the methods differently, so their order is inconclusive: "
        return [
            Measurement(name="panel_agreement", value=found.agreement, n=len(judged), unit=PAIRS_AGREED),
            Check(
                rule="panel_agrees",
                concerns="panel_agreement",
                verdict="pass" if agrees else "warn",
                figure=found.agreement,
                message=f"{start}{told} (agreement {found.agreement:.2f}, limit {_AGREE})",
            ),
        ]

    def _share(self, name: str, values: np.ndarray, conditions: Mapping[str, Any]) -> Measurement:
        interval = intervals.mean(values, self.clusters).interval
        return estimated(name, interval, n=len(values), unit=SHARE, conditions=conditions)


def _room(scores: Sequence[Scores]) -> float:
    """Returns the room between the strongest control and the best order that is known, over all maps."""
    if not scores:
        return 0.0
    best = max(float(one.best.mean()) for one in scores)
    return best - max(float(one.controls[strongest(one)].mean()) for one in scores)


def _numbers(values: Tensor) -> np.ndarray:
    found: np.ndarray = values.double().cpu().numpy()
    return found


def _mean(by_name: Mapping[str, np.ndarray]) -> np.ndarray:
    found: np.ndarray = np.mean(list(by_name.values()), axis=0)
    return found
