"""Standardisation of features by means and deviations of the training records, learnt without pooling them.

Each site adds up its records, and only the sums leave it::

    together = sum((Moments.of(x[rows]) for rows in parts), Moments.none(x.shape[1]))
    x = (x - together.mean) / together.deviation
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from assay.data.base import Dataset
from assay.errors import DataError
from assay.recipes import Federation

Standardised = Literal["by_site", "federated"]
_REMEDY = (
    "means and deviations are learnt from the training records, and no ε is charged for them; use figures that are "
    "known without the records, as standardise: stated"
)


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Sums over records, from which mean and deviation of each feature follow."""

    count: int
    total: np.ndarray
    """(features,) float64 sum of the values."""
    squares: np.ndarray
    """(features,) float64 sum of their squares."""

    @classmethod
    def of(cls, x: np.ndarray) -> "Moments":
        """Adds up records.

        Args:
            x: (n, features) values.

        Returns:
            Their sums.
        """
        x = x.astype(np.float64)
        return cls(count=len(x), total=x.sum(0), squares=(x**2).sum(0))

    @classmethod
    def none(cls, features: int) -> "Moments":
        """Returns the sums of no record.

        Args:
            features: number of features.

        Returns:
            Zeros.
        """
        return cls(count=0, total=np.zeros(features), squares=np.zeros(features))

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            count=self.count + other.count, total=self.total + other.total, squares=self.squares + other.squares
        )

    @property
    def mean(self) -> np.ndarray:
        """(features,) mean of each feature."""
        return self.total / self.count

    @property
    def deviation(self) -> np.ndarray:
        """(features,) standard deviation of each feature, with n − 1; 1 where all values are equal, or there is one."""
        if self.count < 2:
            return np.ones_like(self.total)
        variance = (self.squares - self.total * self.mean) / (self.count - 1)
        # Rounding of the sums leaves a remainder of this size where all values are equal.
        varies = variance > 1e-12 * np.maximum(self.squares / self.count, 1e-300)
        return np.sqrt(np.where(varies, variance, 1.0))


@dataclass(frozen=True, kw_only=True)
class Standardisation:
    """A ``Preparation``: subtracts the mean of each feature and divides by its deviation, both of training records.

    ``federated`` uses mean and deviation of the training records of all sites, which follow from the sums of each.
    ``by_site`` uses those of the record's own site, so that nothing leaves a site; a site without training records uses
    those of all sites. Bounds of a valid input are then the widest of all sites.
    """

    how: Standardised

    def fit(self, dataset: Dataset, train: np.ndarray, *, seed: int) -> Dataset:
        x = np.asarray(dataset.x, np.float64)
        sites = np.full(len(x), "") if dataset.site is None else dataset.site
        sums = {site: Moments.of(x[train[sites[train] == site]]) for site in np.unique(sites).tolist()}
        together = sum(sums.values(), Moments.none(x.shape[1]))
        if not together.count:
            raise DataError(f"{dataset.name}: there are no training records to standardise by")
        used = {site: own if self.how == "by_site" and own.count and site else together for site, own in sums.items()}
        standardised = np.empty_like(x)
        for site, own in used.items():
            standardised[sites == site] = (x[sites == site] - own.mean) / own.deviation
        ends = [[(end - own.mean) / own.deviation for own in used.values()] for end in (dataset.low, dataset.high)]
        low, high = np.min(ends[0], axis=0).astype(np.float32), np.max(ends[1], axis=0).astype(np.float32)
        strangers = [site for site, own in sums.items() if not own.count] if self.how == "by_site" else []
        note = f"; {', '.join(strangers)}, without training records, by those of all sites" if strangers else ""
        return replace(
            dataset,
            # Rounding to float32 must not push a record out of its bounds.
            x=np.clip(standardised.astype(np.float32), low, high),
            low=low,
            high=high,
            units=self.units,
            preparation=None,
            preprocessing=f"{dataset.preprocessing}; in {self.units}{note}",
            unpaid_preprocessing=True,
            remedy=_REMEDY,
        )

    @property
    def units(self) -> str:
        """Meaning of 1.0 of an input."""
        return f"standard deviations of the feature in the training records of {self._whose}"

    @property
    def _whose(self) -> str:
        return "the record's site" if self.how == "by_site" else "all sites"

    def describe(self) -> str:
        return repr(self)

    def owes(self) -> str:
        return _REMEDY

    def pools(self, federation: Federation) -> str:
        clients_are_sites = federation.partition == "natural" and federation.by == "site"
        if self.how == "federated" or clients_are_sites:
            return ""
        return (
            "records of several clients are standardised by figures of the site that they share; say partition: "
            "natural, which makes each site a client, or standardise: federated"
        )
