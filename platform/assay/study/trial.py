"""One trial: data set, split, model, recipe and evaluations, and the keys of its model and its results."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from assay import seeds
from assay.data.splits import Splitting
from assay.models.base import Architecture
from assay.recipes import Recipe
from assay.results import TELLS_OF, TrialRecord
from assay.study.identity import key_of_answer, key_of_training, key_of_trial, settings_of_training
from assay.study.provenance import source_digest, versions
from assay.study.tuned import Tuned
from assay.tasks.base import Task
from assay.tasks.classification import CLASSIFICATION

if TYPE_CHECKING:
    from assay.evaluations.base import Evaluation


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trained model with the evaluations that are run on it. Frozen and picklable.

    ``training`` is the key of the model, ``id`` the key of a row of the report. The same model under another cohort,
    under another recipe name or with other evaluations is another trial, and is trained once.
    """

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
    evaluations: "tuple[Evaluation, ...]"
    data_digest: str
    training_data: str = ""
    """``Dataset.training_digest``; empty for ``data_digest``."""
    evaluation_data: str = ""
    """``Dataset.evaluation_digest``; empty for ``data_digest``."""
    dataset_name: str
    task: Task = CLASSIFICATION
    device: Literal["gpu", "cpu"] = "gpu"
    """See ``Cohort.device``; it enters no key."""
    tuned: Tuned | None = None
    """How the recipe is tuned on the validation records; None trains it as it stands."""
    official: bool = False
    """Whether the data set's own split is used: then repeats vary the seed alone."""
    data_about: Mapping[str, Any] = field(default_factory=dict)
    """Facts about the data set: its licence, citation and warnings. They enter no key, except through the digest."""
    data_modules: tuple[str, ...] = ()
    """Names of the modules that read or prepare the records; empty for all modules of ``assay.data``."""

    @cached_property
    def training(self) -> str:
        """Key of the trained model; changes whenever its weights could."""
        return key_of_training(self)

    @cached_property
    def id(self) -> str:
        """Key of the trial; changes whenever one of its figures could, or a name under which they are shown."""
        return key_of_trial(self)

    def answer(self, evaluation: "Evaluation") -> str:
        """Returns the key of the results of an evaluation of this trial's model.

        Args:
            evaluation: with its settings.

        Returns:
            20 hexadecimal digits.
        """
        records = f"{self.evaluation_data or self.data_digest}, {self.splitting.tested} records"
        return key_of_answer(self.training, evaluation, self.task, records=records)

    def __getstate__(self) -> dict[str, Any]:
        # Each process names a trial by its own code: so a worker of another version is noticed.
        return {key: value for key, value in self.__dict__.items() if key not in ("training", "id")}

    @property
    def label(self) -> str:
        """Cohort, recipe, fold and repeat in words, from 1."""
        if self.official:
            return f"{self.cohort} · {self.recipe_name} · repeat {self.repeat + 1}"
        return f"{self.cohort} · {self.recipe_name} · fold {self.fold + 1}" + (
            f" · repeat {self.repeat + 1}" if self.repeat else ""
        )

    @property
    def trial_seed(self) -> int:
        """The same for every recipe of a fold, so that recipes are compared in pairs."""
        return seed_of(self.seed, fold=self.fold, repeat=self.repeat)

    def record(self, **fields: Any) -> TrialRecord:
        """Returns the record of this trial.

        Args:
            fields: measurements and weights, or an error; see ``TrialRecord``.

        Returns:
            The record, with the provenance of the trial.
        """
        return TrialRecord(
            trial=self.id,
            training=self.training,
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
                # Rows of training records are marked, so where none is, there are none.
                "marks": TELLS_OF,
            },
            **fields,
        )

    def description(self) -> dict[str, Any]:
        """Returns all settings of the trial as plain values.

        Returns:
            The settings by name.
        """
        return {
            **settings_of_training(self),
            "recipe": self.recipe.model_dump(mode="json"),
            "recipe_name": self.recipe_name,
            "cohort": self.cohort,
            "decided": dict(self.task.deciding),
            "evaluations": [evaluation.model_dump(mode="json") for evaluation in self.evaluations],
            "evaluation_data": [evaluation.fingerprint() for evaluation in self.evaluations],
        }


def seed_of(seed: int, *, fold: int, repeat: int) -> int:
    """Returns the seed of all trials of one fold and repeat.

    Args:
        seed: of the study.
        fold: from 0.
        repeat: from 0.

    Returns:
        The derived seed.
    """
    return seeds.derive(seed, "repeat", repeat, "fold", fold)
