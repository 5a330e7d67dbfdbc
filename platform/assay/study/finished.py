"""A finished trial, opened again: its model, its data and all its measurements."""

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
import yaml
from pydantic import ValidationError
from torch import Tensor, nn

from assay.data.base import Dataset
from assay.data.splits import Split, Splitting, split
from assay.errors import CheckpointError, DataError, SpecError
from assay.evaluations.explanations import Explanations
from assay.evaluations.subject import Subject
from assay.models.base import Architecture
from assay.recipes import Recipe
from assay.registry import build
from assay.store.folder import Store
from assay.study.objections import objections_to
from assay.study.spec import GIVEN, Cohort, Study, cohort_with
from assay.study.trial import seed_of
from assay.training.checkpoints import artefact_of, load_weights, networks_from_bytes


@dataclass(frozen=True, kw_only=True)
class Finished:
    """One trained model with its data and its evidence."""

    trial: str
    study: Study
    cohort: str
    recipe_name: str
    fold: int
    """From 0, like ``repeat``."""
    repeat: int
    recipe: Recipe | None
    """None for a checkpoint that Assay did not train."""
    model: nn.Module
    """From records to logits, in evaluation mode, on ``device``."""
    dataset: Dataset
    split: Split
    frame: pd.DataFrame
    """Every row of the study's results."""
    client: str = ""
    """Client whose own model this is; empty for the shared model."""
    artefact: str = ""
    """Hash of the checkpoint that was opened; empty of a model that came from none."""
    explanations: Explanations = Explanations()
    """The evaluation of its explanations, with the settings of this trial. Where it was not run, or by a version whose
    settings are not those of this one, as it is by default."""
    device: torch.device = torch.device("cpu")
    """Where the model is, and answers."""

    def on(self, device: torch.device) -> "Finished":
        """Moves the model to a device.

        Args:
            device: such as the GPU that this process has reserved.

        Returns:
            The same trial, whose model answers there.
        """
        return replace(self, model=self.model.to(device), device=device)

    @property
    def own(self) -> pd.DataFrame:
        """Rows of this trial."""
        return self.frame[self.frame["trial"] == self.trial]

    @property
    def private(self) -> bool:
        """Whether the model was trained privately."""
        return self.recipe is not None and self.recipe.privacy is not None

    @property
    def subject(self) -> Subject:
        """The model as evaluations measured it, with the same rule of decision."""
        return Subject(
            model=self.model,
            dataset=self.dataset,
            split=self.split,
            recipe=self.recipe,
            log=None,
            seed=seed_of(self.study.seed, fold=self.fold, repeat=self.repeat),
            task=self.study.cohorts[self.cohort].task,
            device=self.device,
        )

    @property
    def objections(self) -> tuple[str, ...]:
        """Reasons why a privately trained model may not be released; empty for a model that claims no privacy."""
        return objections_to(self.recipe, self.own)


def open_finished(
    store: Store, *, recipe: str, cohort: str | None = None, fold: int = 1, repeat: int = 1, client: str = ""
) -> Finished:
    """Opens a finished trial of a study.

    Args:
        store: results of the study.
        recipe: its name in the study.
        cohort: may be left out where only one has the recipe, or for the first that has it.
        fold: from 1.
        repeat: from 1.
        client: whose own model, by its site or number; the shared one by default.

    Returns:
        The trial with its model, data and measurements.

    Raises:
        SpecError: the study has no such trial, or it has not finished.
        DataError: the data are no longer those of the trial.
        CheckpointError: the weights are gone, do not fit, or are not those that were measured; or the client has no
            model of its own, or none is named and the shared network is no model.
    """
    text = store.read_text("study.yaml")
    if not text:
        raise SpecError(
            f"there is no study in {store.location!r}; run one first, such as python -m jobs.study quickstart",
            setting="results",
            given=store.location,
        )
    study = Study.model_validate(yaml.safe_load(text)["study"])
    name = cohort_with(study, recipe, cohort=cohort)
    trial, asked = _asked(store, study, (name, recipe, fold - 1, repeat - 1))
    dataset = study.cohorts[name].load()
    if asked.get("data", dataset.digest) != dataset.digest:
        raise DataError(
            f"{dataset.name}: the data have changed since {recipe!r} was trained on them; run the study again",
            setting="dataset",
            given=dataset.name,
        )
    given = recipe == GIVEN and "recipe" not in asked
    splitting = study.split if given else Splitting.model_validate(asked["split"])
    parts = split(dataset, splitting, fold=fold - 1, repeat=repeat - 1, seed=study.seed)
    content = _checkpoint(store, trial)
    origin, seed = dataset.origin, seed_of(study.seed, fold=fold - 1, repeat=repeat - 1)
    dataset = replace(dataset.prepared(parts.train, seed=seed), part_of=origin)
    trained = None if given else Recipe.model_validate(asked["recipe"])
    tensors = _tensors(content, trial, trained, client)
    return Finished(
        trial=trial,
        explanations=_explanations(asked),
        client=client,
        study=study,
        cohort=name,
        recipe_name=recipe,
        fold=fold - 1,
        repeat=repeat - 1,
        artefact=artefact_of(content),
        recipe=trained,
        model=_model(tensors, trial, _architecture(study.cohorts[name], asked), dataset),
        dataset=dataset,
        split=parts,
        frame=store.frame(),
    )


def _asked(store: Store, study: Study, place: tuple[str, str, int, int]) -> tuple[str, dict[str, Any]]:
    """Returns the id and the settings of the trial at a cohort, recipe, fold and repeat."""
    cohort, recipe, fold, repeat = place
    for what, number, most in (("fold", fold, study.split.folds), ("repeat", repeat, study.split.repeats)):
        if not 0 <= number < most:
            message = f"{what} {number + 1} does not exist; the study has {most}"
            raise SpecError(message, setting=what, given=number + 1, allowed=most)
    finished = store.finished()
    for trial, asked in store.asked().items():
        keys = {"cohort": "given", "recipe_name": GIVEN, "fold": 0, "repeat": 0}
        if trial in finished and tuple(asked.get(key, default) for key, default in keys.items()) == place:
            return trial, asked
    raise SpecError(
        f"{recipe!r} of cohort {cohort!r}, fold {fold + 1}, repeat {repeat + 1} has not finished; "
        "run the study to its end",
        setting="recipe",
        given=recipe,
    )


def _explanations(asked: dict[str, Any]) -> Explanations:
    """Returns the evaluation of explanations as a trial was asked it."""
    given: dict[str, Any] = next((one for one in asked.get("evaluations", ()) if one["name"] == "explanations"), {})
    try:
        return Explanations.model_validate(given)
    except ValidationError:  # of an earlier version
        return Explanations(from_training=given.get("from_training"))


def _architecture(cohort: Cohort, asked: dict[str, Any]) -> Architecture:
    architecture = build("model", asked.get("model", cohort.model))
    assert isinstance(architecture, Architecture)
    # The checkpoint holds every weight: a file from which training began may have changed since, or be gone.
    bare = architecture.bare()
    code = bare.fingerprint()
    if code and asked.get("model_code", code) != code:
        raise CheckpointError(
            f"the code of model {architecture.name!r}, or a file that it names, has changed since it was trained; "
            "run the study again",
            setting="model",
            given=architecture.name,
        )
    return bare


def _checkpoint(store: Store, trial: str) -> bytes:
    """Returns the weights on which a trial was measured."""
    content = store.checkpoint(store.trainings().get(trial, trial))
    if content is None:
        raise CheckpointError(
            f"the weights of trial {trial} are not in {store.location!r}; run the study again with --force",
            setting="weights",
            given=trial,
        )
    artefact = artefact_of(content)
    if artefact != store.artefacts().get(trial, artefact):
        raise CheckpointError(
            f"the weights of trial {trial} are not those that were measured; run the study again with --force",
            setting="weights",
            given=trial,
        )
    return content


def _tensors(content: bytes, trial: str, recipe: Recipe | None, client: str) -> dict[str, Tensor]:
    """Returns the weights of the shared network, or of a client's own."""
    networks, _ = networks_from_bytes(content, f"checkpoint of trial {trial}")
    federation = None if recipe is None else recipe.federation
    personal = None if federation is None else federation.personalisation
    why = "" if client in networks else f"client {client!r} has no model of its own"
    if not client and personal is not None and not personal.shares_all:
        why = f"with {personal.name}, some layers are each client's own, so the shared network alone is no model"
    if why:
        known = sorted(networks.keys() - {""})
        raise CheckpointError(
            f"trial {trial}: {why}; clients with a model of their own: {', '.join(known) or 'none'}",
            setting="client",
            given=client,
            allowed=known,
        )
    return networks[client]


def _model(tensors: dict[str, Tensor], trial: str, architecture: Architecture, dataset: Dataset) -> nn.Module:
    model = architecture.build_for(dataset.form, seed=0)
    load_weights(model, tensors, f"checkpoint of trial {trial}")
    return model.eval()
