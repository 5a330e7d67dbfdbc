"""Explainable boosting machines (Lou et al. 2013; Nori et al. 2019, arXiv:1909.09223), plain and private, as networks.

The private one is DP-EBM (Nori et al. 2021, arXiv:2106.09680). Both are trained by the library interpret-core.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.errors import UserError
from assay.models.outputs import LogProbabilities

EXTRA = "interpret-core is not installed, which trains explainable boosting machines: pip install 'assay[glassbox]'"

_FEWEST_GROUPS = 7
"""Patients or hospitals below which 15 % of them are none: records are then left out one by one."""


class GlassBox(nn.Module):
    """A trained machine as a module from records to logits: the logarithms of its probabilities.

    Args:
        machine: of interpret-core.
        classes: number of classes of the data; those that the machine has not learnt have probability 0.
    """

    def __init__(self, machine: Any, classes: int) -> None:
        super().__init__()
        self.machine, self._classes = machine, classes
        self._logits = LogProbabilities()

    def forward(self, x: Tensor) -> Tensor:
        """Returns (n, classes) logits."""
        learnt = np.asarray(self.machine.predict_proba(x.detach().cpu().double().numpy()))
        found = np.zeros((len(learnt), self._classes))
        found[:, np.asarray(self.machine.classes_, int)] = learnt
        return self._logits(torch.from_numpy(found)).to(x.device)

    @property
    def terms(self) -> list[str]:
        """Names of its terms: a feature, or a pair of features."""
        return [str(name) for name in self.machine.term_names_]

    def contributions(self, x: np.ndarray) -> np.ndarray:
        """Returns what each term adds to the score of a class.

        Args:
            x: (n, inputs) records.

        Returns:
            (n, terms) of the second of two classes, (n, terms, classes) of more.
        """
        return np.asarray(self.machine.eval_terms(x.astype(np.float64)))


def installed() -> bool:
    """Returns whether interpret-core can be imported."""
    try:
        import interpret.glassbox  # noqa: F401
    except ImportError:
        return False
    return True


def train_glass_box(
    x: np.ndarray,
    y: np.ndarray,
    *,
    names: Sequence[str],
    seed: int,
    bags: int,
    pairs: int,
    classes: int = 2,
    groups: np.ndarray | None = None,
) -> GlassBox:
    """Trains an explainable boosting machine.

    Args:
        x: (n, inputs) training records.
        y: (n,) labels.
        names: of the inputs.
        seed: of all that is drawn.
        bags: machines that are averaged; each leaves out 15 % of the records to know when to stop.
        pairs: greatest number of terms of two features.
        classes: of the data; those without a training record get probability 0.
        groups: (n,) patients, who are left out as a whole; None where each record counts by itself.

    Returns:
        The machine.

    Raises:
        UserError: interpret-core is not installed.
    """
    _refuse_without()
    from interpret.glassbox import ExplainableBoostingClassifier

    machine = ExplainableBoostingClassifier(
        feature_names=list(names),
        feature_types=["continuous"] * len(names),
        interactions=pairs,
        outer_bags=bags,
        random_state=seed,
        n_jobs=1,
    )
    return GlassBox(machine.fit(x.astype(np.float64), y, bags=_bags(y, groups, bags, seed)), classes)


def train_private_glass_box(
    x: np.ndarray,
    y: np.ndarray,
    *,
    names: Sequence[str],
    bounds: tuple[np.ndarray, np.ndarray],
    epsilon: float,
    delta: float,
    seed: int,
) -> GlassBox:
    """Trains a differentially private machine, with Gaussian noise that follows from the seed: an experiment.

    The library learns no range: bins lie between the given bounds, and every input is declared to be a number, so that
    no category is looked up in the records. It takes the number of records and the two classes as known. Its ε is that
    of Gaussian differential privacy, for adding or removing one record.

    Args:
        x: (n, inputs) training records.
        y: (n,) labels, 0 or 1.
        names: of the inputs.
        bounds: (inputs,) least and greatest possible value, which no record was asked for.
        epsilon: that the training spends.
        delta: of this ε.
        seed: of the noise.

    Returns:
        The machine.

    Raises:
        UserError: interpret-core is not installed.
    """
    _refuse_without()
    from interpret.privacy import DPExplainableBoostingClassifier

    machine = DPExplainableBoostingClassifier(
        feature_names=list(names),
        feature_types=["continuous"] * len(names),
        epsilon=epsilon,
        delta=delta,
        composition="gdp",
        privacy_bounds=np.stack(bounds, axis=1).astype(np.float64),
        random_state=seed,
        n_jobs=1,
    )
    with warnings.catch_warnings():
        # It warns that a fixed seed makes noise that can be subtracted; the caller says so beside the figure.
        warnings.filterwarnings("ignore", message="Privacy violation: using a fixed random_state")
        return GlassBox(machine.fit(x.astype(np.float64), y), 2)


def _refuse_without() -> None:
    if not installed():
        raise UserError(EXTRA, setting="glass_box", given="interpret-core", allowed="assay[glassbox]")


def _bags(y: np.ndarray, groups: np.ndarray | None, bags: int, seed: int) -> np.ndarray | None:
    """Returns which records each bag learns from (1) and stops by (-1), whole patients; None for the library's own."""
    if groups is None or len(np.unique(groups)) < _FEWEST_GROUPS:
        return None
    known, place = np.unique(groups, return_inverse=True)
    count = len(known)
    generator = np.random.default_rng(seed)
    found = np.ones((bags, len(y)), np.int8)
    for bag in found:
        left_out = generator.permutation(count)[: max(1, round(0.15 * count))]
        bag[np.isin(place, left_out)] = -1
    return found
