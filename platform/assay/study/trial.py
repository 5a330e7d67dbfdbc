"""What one trial asks: data set × split × model × recipe × evaluations, named by the hash of its content."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assay import seeds
from assay.data.splits import Splitting
from assay.evaluations.base import Evaluation
from assay.models.base import Architecture
from assay.recipes import Recipe
from assay.results import TrialRecord
from assay.study.provenance import source_digest, versions


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one trial asks. Frozen and picklable; its ``id`` changes whenever its result could."""

    cohort: str
    recipe_name: str
    fold: int
    repeat: int
    seed: int
    """Seed of the study."""
    threads: int
    splitting: Splitting
    model: Architecture
    recipe: Recipe
    evaluations: tuple[Evaluation, ...]
    data_digest: str
    dataset_name: str
    official: bool = False
    """Whether the data set's own split is used: then repeats vary the seed alone."""
    data_about: Mapping[str, Any] = field(default_factory=dict)
    """What is said of the data set: its licence, citation and warnings; no part of the id beyond the digest."""

    @property
    def id(self) -> str:
        content = {**self.description(), "versions": versions(), "source": source_digest()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]

    @property
    def label(self) -> str:
        if self.official:
            return f"{self.cohort} · {self.recipe_name} · repeat {self.repeat + 1}"
        return f"{self.cohort} · {self.recipe_name} · fold {self.fold + 1}" + (
            f" · repeat {self.repeat + 1}" if self.repeat else ""
        )

    @property
    def trial_seed(self) -> int:
        """The same for every recipe of a fold: recipes are compared in pairs."""
        return seed_of(self.seed, fold=self.fold, repeat=self.repeat)

    def record(self, **found: Any) -> TrialRecord:
        """What became of this trial: measurements and weights, or an error."""
        return TrialRecord(
            trial=self.id,
            dataset=self.dataset_name,
            model=self.model.name,
            recipe=self.recipe_name,
            fold=self.fold,
            repeat=self.repeat,
            provenance={
                "asked": self.description(),
                "data": self.data_about,
                "versions": versions(),
                "source": source_digest(),
            },
            **found,
        )

    def description(self) -> dict[str, Any]:
        """All that is asked, as plain values."""
        return {
            "data": self.data_digest,
            "split": self.splitting.model_dump(
                mode="json", exclude={"repeats", "folds"} if self.official else {"repeats"}
            ),
            "official": self.official,
            "fold": self.fold,
            "repeat": self.repeat,
            "seed": self.seed,
            "threads": self.threads,
            "model": self.model.model_dump(mode="json"),
            "model_code": self.model.fingerprint(),
            "recipe": self.recipe.model_dump(mode="json"),
            "recipe_name": self.recipe_name,
            "cohort": self.cohort,
            "evaluations": [evaluation.model_dump(mode="json") for evaluation in self.evaluations],
            "evaluation_data": [evaluation.fingerprint() for evaluation in self.evaluations],
        }


def seed_of(seed: int, *, fold: int, repeat: int) -> int:
    """The seed of all trials of one fold and repeat."""
    return seeds.derive(seed, "repeat", repeat, "fold", fold)
