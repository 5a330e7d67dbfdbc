"""Identification of reconstructed records among candidates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.evaluations.inversion_cases import Attacked
from assay.evaluations.subject import Subject
from assay.federated.inversion.matching import candidate_scores

_MOST = 100.0
"""dB of a reconstruction without error."""


@dataclass(frozen=True, kw_only=True)
class Lineup:
    """A victim among other records of its class, of which none is behind the update, and none a copy of it."""

    victim: int
    others: np.ndarray
    """(n − 1,) positions, drawn like the victim, so that whoever knows nothing of it finds it with probability 1/n."""


def pool_of(subject: Subject) -> np.ndarray:
    """Returns the records from which candidates are drawn: all that are in a split, without copies.

    Args:
        subject: with its data.

    Returns:
        (n,) positions.
    """
    split = subject.split
    return subject.distinct(np.concatenate([split.train, split.validation, split.calibration, split.test]))


def lineup(subject: Subject, pool: np.ndarray, attacked: Attacked, victim: int, candidates: int) -> Lineup:
    """Draws the other candidates for a victim.

    They have the victim's label: an attacker who learns the label alone identifies nobody by it.

    Args:
        subject: with its data.
        pool: positions of the records from which candidates are drawn.
        attacked: the update.
        victim: position of the record.
        candidates: number of candidates with the victim.

    Returns:
        The lineup; it is smaller where the class has fewer records.
    """
    dataset = subject.dataset
    pool = pool[(dataset.y[pool] == dataset.y[victim]) & ~np.isin(pool, attacked.rows)]
    order = seeds.stream(subject.seed, "inversion", "candidates", victim).permutation(pool)[: candidates - 1]
    same = (dataset.x[order] == dataset.x[np.array([victim])]).reshape(len(order), -1).all(1)
    return Lineup(victim=victim, others=order[~same])


@dataclass(frozen=True, kw_only=True)
class Found:
    """What became of each victim."""

    identified: np.ndarray
    """(v,) bool: no other candidate is as near to a reconstruction as the victim."""
    error: np.ndarray
    """(v,) root mean squared error of the reconstruction that is nearest to the victim, in units of the scale."""
    nearest: tuple[np.ndarray, ...]
    """(v,) that reconstruction."""

    @property
    def psnr(self) -> np.ndarray:
        """(v,) dB, at most 100; the scale is the range of a pixel."""
        return np.minimum(-20 * np.log10(np.maximum(self.error, 1e-12)), _MOST)


def scale_of(subject: Subject) -> Tensor:
    """Returns the unit of each input, by which distances are measured.

    Args:
        subject: with its data.

    Returns:
        (*shape) the range of a pixel or sample; of tables the standard deviation of the training records, since the
        bounds of a column may be far from all of its values.
    """
    dataset = subject.dataset
    width = np.broadcast_to(dataset.high - dataset.low, dataset.shape).astype(np.float64)
    if dataset.modality != "tabular":
        return torch.from_numpy(width.copy())
    deviation = dataset.x[subject.split.train].astype(np.float64).std(0)
    return torch.from_numpy(np.where(deviation > 1e-6 * width, deviation, width))


def score(subject: Subject, reconstructions: Sequence[Tensor], lineups: Sequence[Lineup]) -> Found:
    """Compares reconstructions with the candidates of each victim.

    Args:
        subject: with its data.
        reconstructions: (v,) of (r, *shape) each: all that came out of the update in which the victim is.
        lineups: (v,) the candidates.

    Returns:
        The results.
    """
    scale, hits, errors, nearest = scale_of(subject), [], [], []
    for found, one in zip(reconstructions, lineups, strict=True):
        rows = np.concatenate([[one.victim], one.others])
        x = torch.from_numpy(np.asarray(subject.dataset.x[rows], np.float64)) / scale
        guesses = found.detach().cpu().double() / scale
        apart = torch.cdist(
            x.flatten(1), guesses.flatten(1), compute_mode="donot_use_mm_for_euclid_dist"
        )  # differences, not products: an exact reconstruction is at 0
        least = apart.amin(1)
        hits.append(bool((least[0] < least[1:]).all()))
        errors.append(float(least[0]) / np.sqrt(scale.numel()))
        nearest.append(found[int(apart[0].argmin())].cpu().numpy())
    return Found(identified=np.array(hits), error=np.array(errors), nearest=tuple(nearest))


def identified_by_gradient(
    subject: Subject, network: nn.Module, attacked: Sequence[Attacked], lineups: Sequence[Lineup]
) -> np.ndarray:
    """Compares the update with the gradient of every candidate; nothing is reconstructed.

    Args:
        subject: with its data.
        network: with the weights that the server sent.
        attacked: (v,) the update in which each victim is.
        lineups: (v,) the candidates.

    Returns:
        (v,) bool: no other candidate's gradient is as near to the update as the victim's.
    """
    hits = []
    for one, line in zip(attacked, lineups, strict=True):
        x, y = subject.records(np.concatenate([[line.victim], line.others]))
        scores = candidate_scores(network, one.update, x, y, task=subject.task)
        hits.append(bool((scores[0] > scores[1:]).all()))
    return np.array(hits)
