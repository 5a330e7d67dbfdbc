"""Maps that know nothing, put through all that a user of ``explanations`` sees: places, p-values, and verdicts.

The areas of the maps, of their controls and of the oracle are measured once; each experiment draws records and maps
from them and hands the scores to the functions of the evaluation (``explanation_verdicts``, ``explanation_secondary``).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from assay import seeds
from assay.evaluations.explanation_secondary import ScorePair, corrected
from assay.evaluations.explanation_verdicts import ALPHA, LEAST_ROOM, Scores, placed, verdicts
from assay.explain.measures.base import MeasuredRecords
from assay.explain.measures.controls.base import Control
from assay.explain.measures.panel import Panel

METHODS = 3
"""Maps of an experiment, over which Holm corrects."""
NOISE = "noise"
"""The other draws of the same maps: on average exactly as good."""
_STEPS, _CONTROL_DRAWS, _BOOTSTRAP = 10, 3, 200


@dataclass(frozen=True, kw_only=True)
class NullScores:
    """Areas between the curves of maps that know nothing, by draw and record."""

    own: np.ndarray
    """(draws, n) of each map."""
    controls: Mapping[str, np.ndarray]
    """(draws, n) of each control beside each map."""
    searched: np.ndarray
    """(n,) of the best order that is known."""

    @property
    def noise(self) -> np.ndarray:
        """(draws, n) mean of the other maps."""
        return (self.own.sum(0) - self.own) / (len(self.own) - 1)

    def chosen(self, draws: np.ndarray, rows: np.ndarray, *, alone: bool, beyond: float = 0.0) -> Scores:
        """Returns the scores of one map as the evaluation has them.

        Args:
            draws: (k,) the draw that is the map of each record.
            rows: (k,) the records.
            alone: whether the other draws are the only control: then a false verdict is likeliest.
            beyond: share of the room to the best known order by which the map is better than the other draws.

        Returns:
            The scores.
        """
        noise = self.noise[draws, rows]
        own = self.own[draws, rows] + beyond * (self.searched[rows] - noise)
        others = {} if alone else {name: values[draws, rows] for name, values in self.controls.items()}
        return Scores(own=own, controls={NOISE: noise, **others}, searched=self.searched[rows])


def null_scores(records: MeasuredRecords, values: Tensor, noise: Control, draws: int) -> NullScores:
    """Measures maps that know nothing, their controls, and the oracle.

    Args:
        records: with their network.
        values: (n, ...) by feature, the map whose look the others have.
        noise: that draws them.
        draws: of maps.

    Returns:
        The scores.
    """
    panel = Panel(records=records, steps=_STEPS, draws=_CONTROL_DRAWS)
    maps = [noise.draw(records, values, number) for number in range(draws)]
    deciding = [one for one in panel.controls if one.decides and one.name != noise.name]
    numbers = lambda scores: torch.stack(scores).double().cpu().numpy()
    return NullScores(
        own=numbers([panel.between(one) for one in maps]),
        controls={one.name: numbers([panel.of_control(one, given) for given in maps]) for one in deciding},
        searched=panel.searched().double().cpu().numpy(),
    )


def chain(scores: NullScores, *, experiments: int, of_each: int) -> dict[str, float]:
    """Counts wrong statements over experiments.

    Args:
        scores: of maps that know nothing.
        experiments: number of experiments.
        of_each: records of one.

    Returns:
        Shares of experiments: ``false_better``, in which any map is called better than every control;
        ``false_better_one_control`` and ``false_no_better``, in which any map at a tenth of the room above its only
        control, which is the limit, is called better, or no better; ``place_coverage``, in which the interval of a
        place holds the true one, 0.
    """
    generator = seeds.stream(0, "null chain")
    counted = dict.fromkeys(("false_better", "false_better_one_control", "false_no_better", "place_coverage"), 0)
    for _ in range(experiments):
        rows = generator.integers(scores.own.shape[1], size=of_each)
        draws = generator.permuted(np.tile(np.arange(len(scores.own)), (of_each, 1)), axis=1)[:, :METHODS].T
        every = [scores.chosen(one, rows, alone=False) for one in draws]
        alone = [scores.chosen(one, rows, alone=True) for one in draws]
        useful = [scores.chosen(one, rows, alone=True, beyond=LEAST_ROOM) for one in draws]
        counted["false_better"] += any(one.better for one in verdicts(every, None))
        counted["false_better_one_control"] += any(one.better for one in verdicts(useful, None))
        counted["false_no_better"] += any(one.no_better for one in verdicts(useful, None))
        place = placed(alone[0], None, generator=generator, draws=_BOOTSTRAP)
        counted["place_coverage"] += place.low <= 0 <= place.high
    return {name: count / experiments for name, count in counted.items()}


def false_family(
    drawn: Mapping[str, np.ndarray], better: Mapping[str, str], *, experiments: int, of_each: int
) -> float:
    """Returns the share of experiments in which a further measure calls any map that knows nothing better.

    Args:
        drawn: (n, draws) scores of such maps by each measure.
        better: which direction of a measure is better.
        experiments: number of experiments.
        of_each: records of one.

    Returns:
        The error of the whole family, over measures and maps.
    """
    generator = seeds.stream(0, "null family")
    wrong = 0
    for _ in range(experiments):
        n, count = next(iter(drawn.values())).shape
        rows = generator.integers(n, size=of_each)
        draws = generator.permuted(np.tile(np.arange(count), (of_each, 1)), axis=1)[:, :METHODS].T
        tests = []
        for name, scores in drawn.items():
            for one in draws:
                own = scores[rows, one]
                others = (np.nansum(scores[rows], axis=1) - np.nan_to_num(own)) / (count - 1)
                tests.append(ScorePair(own=own, control=others, better=better[name]))
        wrong += min(corrected(tests, None)) < ALPHA
    return wrong / experiments
