"""Keys of trained models, of the results of their evaluations, and of trials.

A trained model is named by what made it, a result by the model and the evaluation. So one more evaluation trains
nothing. Names that a study gives to cohorts, recipes and folds are in neither key.
"""

import hashlib
import json
import pkgutil
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

# Every method that a name may stand for must be known before the code behind a name is looked for.
import assay.attacks
import assay.data
import assay.evaluations
import assay.federated.strategies
import assay.models
import assay.objectives
import assay.tasks
from assay.study.provenance import dependencies
from assay.study.sources import digest_of, modules_in

if TYPE_CHECKING:
    from assay.evaluations.base import Evaluation
    from assay.study.trial import Trial
    from assay.tasks.base import Task

_TRAINING_MODULE = "assay.study.training"
"""Trains a trial; with what it imports, the code that makes weights."""
_EVALUATION_MODULE = "assay.study.asking"
"""Runs one evaluation and marks figures that depend on training records."""
_TRIAL_MODULE = "assay.study.measure"
"""Runs all evaluations of a trial and adds the checks that concern several of them."""
_SCORE_MODULES = ("assay.tasks.class_scores", "assay.tasks.operating_point", "assay.data.heterogeneity")
"""Compute metrics of a trained model or of its records; no training calls them."""
_FEDERATED_MODULES = ("assay.federated.server", "assay.data.partition", "assay.data.partition_counts")
"""Train federated recipes alone."""
_TUNING_MODULES = ("assay.study.tuned_training",)
"""Train recipes that are tuned within their trial alone."""
_SPEED_ALONE = {"training": {"records_at_once"}}
"""Settings of a recipe that change how long it takes or how much memory, and no result beyond rounding."""

_LATER = {"training": {"precision": "float32"}}
"""Settings of a recipe that came later, with the value that stands for what all trainings did before: it names nothing
new."""


def key_of_training(trial: "Trial") -> str:
    """Returns the key of the weights that a trial trains, and of what they cost.

    Args:
        trial: whose data, split, seed, threads, model, recipe and training code enter the key.

    Returns:
        20 hexadecimal digits.
    """
    settings = settings_of_training(trial)
    # Which records are tested, and what the data are called, change no weights.
    split = {key: value for key, value in settings["split"].items() if key != "tested"}
    central = () if trial.recipe.federation is not None else _FEDERATED_MODULES
    untuned = () if trial.tuned is not None else _TUNING_MODULES
    return hash_of(
        {
            **settings,
            "data": trial.training_data or trial.data_digest,
            "split": split,
            "recipe": _recipe_of_training(trial),
            "versions": dependencies(),
            "source": digest_of(
                {
                    _TRAINING_MODULE,
                    *(trial.data_modules or _data_modules()),
                    *modules_in(trial.model),
                    *modules_in(trial.recipe),
                    *modules_in(trial.task),
                },
                without=(*_SCORE_MODULES, *central, *untuned),
                by_name=False,
            ),
        }
    )


def _recipe_of_training(trial: "Trial") -> dict[str, Any]:
    """Returns the settings of a recipe that change weights, as plain values."""
    recipe = trial.recipe.model_dump(mode="json", exclude=_SPEED_ALONE)
    for part, settings in _LATER.items():
        recipe[part] = {
            name: value for name, value in recipe[part].items() if name not in settings or settings[name] != value
        }
    return recipe


@lru_cache(maxsize=1)
def _data_modules() -> frozenset[str]:
    """Returns all modules of ``data/``: they are called through the data set, so no import names them."""
    modules = pkgutil.walk_packages(assay.data.__path__, "assay.data.")
    return frozenset(module.name for module in modules if not module.ispkg)


def settings_of_training(trial: "Trial") -> dict[str, Any]:
    """Returns all settings of a training except its recipe, as plain values.

    Args:
        trial: that trains.

    Returns:
        The settings by name.
    """
    of_folds = {"folds"} if trial.official else set()
    tuned = {} if trial.tuned is None else {"tuned": trial.tuned.model_dump(mode="json")}
    return {
        **tuned,
        "data": trial.data_digest,
        "split": trial.splitting.model_dump(mode="json", exclude={"repeats", *of_folds}),
        "official": trial.official,
        "fold": trial.fold,
        "repeat": trial.repeat,
        "seed": trial.seed,
        "trial_seed": trial.trial_seed,
        "threads": trial.threads,
        "model": trial.model.model_dump(mode="json"),
        "model_code": trial.model.fingerprint(),
        "task": dict(trial.task.training),
    }


def key_of_question(evaluation: "Evaluation", task: "Task") -> str:
    """Returns the key of an evaluation: its settings, its own data, the rule of decision, and its code.

    The threshold of decisions is left out for an evaluation that only uses probabilities or losses.

    Args:
        evaluation: with its settings.
        task: of the model.

    Returns:
        20 hexadecimal digits.
    """
    decided = {} if evaluation.looks_at == "probabilities" else dict(task.deciding)
    return hash_of(
        {
            "evaluation": evaluation.model_dump(mode="json", exclude=set(evaluation.read_later)),
            **({"decided": decided} if decided else {}),
            "data": evaluation.fingerprint(),
            "versions": dependencies(),
            "source": digest_of({_EVALUATION_MODULE, *modules_in(evaluation)}),
        }
    )


def key_of_trial(trial: "Trial") -> str:
    """Returns the key of a trial: its model, its results, and the names under which the report shows them.

    Args:
        trial: with its evaluations.

    Returns:
        20 hexadecimal digits.
    """
    return hash_of(
        {
            "training": trial.training,
            "answers": [trial.answer(evaluation) for evaluation in trial.evaluations],
            "read": [
                evaluation.model_dump(mode="json", include=set(evaluation.read_later))
                for evaluation in trial.evaluations
            ],
            "cohort": trial.cohort,
            "recipe": trial.recipe_name,
            "source": digest_of([_TRIAL_MODULE]),
        }
    )


def key_of_answer(training: str, evaluation: "Evaluation", task: "Task", *, records: str = "") -> str:
    """Returns the key of the results of one evaluation of one trained model.

    Args:
        training: key of the model.
        evaluation: with its settings.
        task: of the model.
        records: digest of the data and the part that is tested, where the key of the model does not contain them.

    Returns:
        20 hexadecimal digits.
    """
    return hash_of({"training": training, "records": records, "question": key_of_question(evaluation, task)})


def hash_of(content: Mapping[str, Any]) -> str:
    """Returns the hash of plain values.

    Args:
        content: values that JSON can hold.

    Returns:
        20 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]
