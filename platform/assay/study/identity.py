"""What names a trained model, and what names an answer about it.

A trained model is named by what made it, an answer by the model and the question. So one more question trains nothing,
and what a study calls its cohorts, recipes and folds names neither.
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
import assay.models
import assay.objectives
import assay.tasks
from assay.study.provenance import dependencies
from assay.study.sources import digest_of, modules_in

if TYPE_CHECKING:
    from assay.evaluations.base import Evaluation
    from assay.study.trial import Trial
    from assay.tasks.base import Task

_TRAINING = "assay.study.training"
"""Trains a trial; with what it imports, the code that makes weights."""
_ASKING = "assay.study.asking"
"""Asks one evaluation, and notes what must not leave."""
_MEASURING = "assay.study.measure"
"""Asks a trial's questions, and sets beside their answers what concerns several of them."""
_SCORES = ("assay.tasks.class_scores", "assay.tasks.operating_point")
"""What a task computes of a trained model's answers: no training calls it."""
_SPEED_ALONE = {"training": {"records_at_once"}}
"""Settings of a recipe that change how long it takes or how much memory, and no result beyond rounding."""


def key_of_training(trial: "Trial") -> str:
    """Names the weights that a trial trains, and what they cost: data, split, seed, threads, model, recipe, code."""
    return hash_of(
        {
            **settings_of_training(trial),
            "recipe": trial.recipe.model_dump(mode="json", exclude=_SPEED_ALONE),
            "versions": dependencies(),
            "source": digest_of(
                {
                    _TRAINING,
                    *_data_modules(),
                    *trial.data_modules,
                    *modules_in(trial.model),
                    *modules_in(trial.recipe),
                    *modules_in(trial.task),
                },
                without=_SCORES,
            ),
        }
    )


@lru_cache(maxsize=1)
def _data_modules() -> frozenset[str]:
    """All modules of ``data/``: what decodes and prepares records is called through the data set, not imported."""
    found = pkgutil.walk_packages(assay.data.__path__, "assay.data.")
    return frozenset(module.name for module in found if not module.ispkg)


def settings_of_training(trial: "Trial") -> dict[str, Any]:
    """All that a training is asked, as plain values, but for its recipe."""
    of_folds = {"folds"} if trial.official else set()
    return {
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
    """Names what is asked: an evaluation with its settings, data of its own, how answers are decided, and the code.

    Where it only looks at probabilities or losses, it does not matter at which threshold answers are decided.
    """
    decided = {} if evaluation.looks_at == "probabilities" else dict(task.deciding)
    return hash_of(
        {
            "evaluation": evaluation.model_dump(mode="json", exclude=set(evaluation.read_later)),
            **({"decided": decided} if decided else {}),
            "data": evaluation.fingerprint(),
            "versions": dependencies(),
            "source": digest_of({_ASKING, *modules_in(evaluation)}),
        }
    )


def key_of_trial(trial: "Trial") -> str:
    """Names the row of a report: model, answers, the names under which they are shown, and the code that joins them."""
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
            "source": digest_of([_MEASURING]),
        }
    )


def key_of_answer(training: str, evaluation: "Evaluation", task: "Task") -> str:
    """Names the answers of one evaluation about one trained model."""
    return hash_of({"training": training, "question": key_of_question(evaluation, task)})


def hash_of(content: Mapping[str, Any]) -> str:
    """Returns the name of plain values: 20 hexadecimal digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]
