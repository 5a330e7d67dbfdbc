"""The updates that ``inversion`` attacks: whose records are behind them, and under which conditions they leave."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from assay import seeds
from assay.evaluations.clients import training_partition
from assay.evaluations.subject import Subject
from assay.federated.client import budgeted
from assay.federated.inversion.observed import Decode, ObservedUpdate, change_of_round, gradient_of_step, identity
from assay.federated.transforms.pipeline import Pipeline
from assay.privacy.plan import training_steps
from assay.privacy.unit import protected
from assay.recipes import Privacy, Recipe
from assay.seeds import client_seed
from assay.training.build import build_trainer
from assay.training.loop import Trainer

WeightsAre = Literal["fresh", "trained"]
UpdateIs = Literal["step", "round"]
PrivacyIs = Literal["none", "recipe", "hypothetical"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Conditions under which updates leave clients."""

    weights: WeightsAre
    """``fresh``: those before training; ``trained``: those of the final model."""
    update: UpdateIs
    """``step``: the gradient of one step; ``round``: the weight change of a client's whole round."""
    batch: int
    """Records of a step; 0 of a round, which uses all records of the client."""
    recipe: Recipe
    privacy: PrivacyIs
    actual: bool
    """Whether privacy and compression are those of the recipe itself."""
    compression: str = "none"
    decode: Decode = identity

    @property
    def conditions(self) -> dict[str, Any]:
        """Conditions of the measurements."""
        epsilon = None if self.recipe.privacy is None else self.recipe.privacy.epsilon
        return {
            "weights": self.weights,
            "update": self.update,
            "privacy": self.privacy,
            "privacy_epsilon": epsilon,
            "actual": self.actual,
            "compression": self.compression,
        }


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """One update with the records that the attacker looks for in it."""

    update: ObservedUpdate
    rows: np.ndarray
    """(b,) positions of all records behind it."""
    victims: np.ndarray
    """(v,) positions of those that are looked for."""
    client: int


@dataclass(frozen=True, kw_only=True)
class Victims:
    """Records that are looked for, by client."""

    parts: Mapping[int, np.ndarray]
    """Positions of the records of each attacked client."""
    chosen: Mapping[int, np.ndarray]
    """Positions of those that are looked for, of each attacked client."""

    @classmethod
    def of(cls, subject: Subject, *, victims: int, clients: int) -> "Victims":
        """Draws clients, and among their records those that are looked for, which are no copies of each other.

        Args:
            subject: the trained model with its data.
            victims: how many records are looked for, at most.
            clients: how many clients are attacked, at most.

        Returns:
            The records, the same for every recipe of the same clients.
        """
        generator = seeds.stream(subject.seed, "inversion", "victims")
        parts = parts_of(subject)
        attacked = np.sort(generator.permutation(len(parts))[:clients])
        owner = {int(row): int(place) + 1 for place in attacked for row in parts[place]}
        drawn = generator.permutation(subject.distinct(np.sort(np.array(list(owner)))))[:victims]
        chosen = {int(place) + 1: np.sort([r for r in drawn if owner[int(r)] == place + 1]) for place in attacked}
        return cls(
            parts={int(place) + 1: parts[place] for place in attacked},
            chosen={number: rows.astype(np.int64) for number, rows in chosen.items() if len(rows)},
        )


def parts_of(subject: Subject) -> list[np.ndarray]:
    """Returns the records of each client; all training records are one client's where the recipe is not federated.

    Args:
        subject: with its recipe.

    Returns:
        Positions of the records, by client.
    """
    federated = subject.recipe is not None and subject.recipe.federation is not None
    return list(training_partition(subject)) if federated else [np.sort(subject.split.train)]


def decoders_of(recipe: Recipe, network: nn.Module, *, seed: int) -> dict[str, Decode]:
    """Returns what the server decodes of an update, by the name of the compression.

    Args:
        recipe: of the clients.
        network: gives the shapes of the parameters.
        seed: of random decisions of a transform.

    Returns:
        ``none``, and the recipe's own transforms where it has some. A client sends its first update, so nothing was
        held back before.
    """
    decoders: dict[str, Decode] = {"none": identity}
    transforms = () if recipe.federation is None else recipe.federation.transforms
    if transforms:
        pipeline = Pipeline(transforms, [tuple(p.shape) for p in network.parameters() if p.requires_grad])
        number = itertools.count()

        def decode(update: Tensor) -> Tensor:
            generator = seeds.stream(seed, "inversion", "transforms", next(number))
            return pipeline.encode(update, {}, generator=generator).decoded.to(update.device)

        decoders["+".join(transform.name for transform in transforms)] = decode
    return decoders


def cases_of(
    recipe: Recipe,
    decoders: Mapping[str, Decode],
    *,
    weights: Sequence[WeightsAre],
    batches: Sequence[int],
    rounds: bool,
    epsilons: Sequence[float],
) -> list[Case]:
    """Returns all conditions: steps with and without privacy and compression, rounds as they are.

    Args:
        recipe: of the clients.
        decoders: from ``decoders_of``; the last is that of the recipe itself.
        weights: before or after training.
        batches: records of a step.
        rounds: whether rounds are attacked too.
        epsilons: hypothetical ε of a recipe without privacy.

    Returns:
        The cases. The first is the one in which the attack must work: fresh weights, one record, no privacy.
    """
    own = recipe_of_client(recipe)
    variants: list[tuple[PrivacyIs, Recipe]] = [("none", _with_privacy(own, None))]
    if own.privacy is not None:
        variants.append(("recipe", own))
    else:
        variants += [("hypothetical", one) for epsilon in epsilons if (one := _private(own, epsilon)) is not None]
    privacy, compression = "none" if own.privacy is None else "recipe", list(decoders)[-1]
    steps = [
        Case(
            weights=w,
            update="step",
            batch=batch,
            recipe=variant,
            privacy=name,
            actual=(name, how) == (privacy, compression),
            compression=how,
            decode=decode,
        )
        for w, batch, (name, variant), (how, decode) in itertools.product(weights, batches, variants, decoders.items())
    ]
    actual = next(case for case in steps if case.actual)
    return [*steps, *(replace(actual, weights=w, update="round", batch=0) for w in weights if rounds)]


def recipe_of_client(recipe: Recipe) -> Recipe:
    """Returns the recipe by which a client computes its update here.

    Treatments that leave records out or poison them are dropped: positions would change, and the update of a record
    that is there is in question. Noise is seeded, by a seed that nothing else uses, so that results are repeatable.

    Args:
        recipe: of the study.

    Returns:
        The changed copy.
    """
    data = tuple(treatment for treatment in recipe.data if not treatment.treats)
    privacy = recipe.privacy and recipe.privacy.model_copy(update={"noise": "seeded"})
    return recipe.model_copy(update={"data": data, "privacy": privacy})


def updates_of(subject: Subject, case: Case, victims: Victims) -> Iterator[Attacked]:
    """Computes the updates of a case by the clients' own trainers.

    Args:
        subject: the trained model with its data.
        case: conditions of the updates.
        victims: records that are looked for.

    Returns:
        Iterator over the updates, as the server decodes them.

    Raises:
        UserError: the recipe cannot train on these records, such as a δ that is not below 1/n.
        IncompatibleRecipeError: the network or the recipe does not allow privacy.
        TrainingError: a round diverged.
    """
    for number, chosen in victims.chosen.items():
        rows = victims.parts[number]
        trainer = client_trainer(subject, case, number, rows)
        try:
            if case.update == "round":
                federation = case.recipe.federation
                each = trainer.steps_per_epoch
                steps = each if federation is None else federation.steps_of_round(each)
                update = change_of_round(trainer, case.recipe.training, steps)
                yield Attacked(update=update.decoded(case.decode), rows=rows, victims=chosen, client=number)
                continue
            place = {int(row): position for position, row in enumerate(rows)}
            for draw, victim in enumerate(chosen.tolist()):
                others = seeds.stream(subject.seed, "inversion", "batch", victim).permutation(rows[rows != victim])
                batch = np.array([victim, *others[: case.batch - 1].tolist()])
                update = gradient_of_step(trainer, [place[row] for row in batch.tolist()], draw=draw)
                yield Attacked(
                    update=update.decoded(case.decode), rows=batch, victims=np.array([victim]), client=number
                )
        finally:
            trainer.close()


def network_of(subject: Subject, weights: WeightsAre) -> nn.Module:
    """Returns a new network with the weights that the server sent to its clients.

    Args:
        subject: the trained model.
        weights: before or after training.

    Returns:
        The network, on the subject's device, in evaluation mode.
    """
    assert subject.network is not None
    network = subject.network()
    if weights == "trained":
        network.load_state_dict(subject.network_alone.state_dict())
    return network.to(subject.device).eval()


def client_trainer(subject: Subject, case: Case, number: int, rows: np.ndarray) -> Trainer:
    """Returns the trainer of a client before its first step, as ``federated.client`` builds it.

    Hooks of a strategy are left out: a proximal term, or control variates at 0, change nothing in the first step.

    Args:
        subject: the trained model with its data.
        case: weights and recipe.
        number: of the client.
        rows: positions of its records.

    Returns:
        The trainer.
    """
    patients, recipe = subject.patients(rows), case.recipe
    units = len(rows) if recipe.privacy is None else protected(recipe.privacy, patients, len(rows))
    return build_trainer(
        network_of(subject, case.weights),
        recipe if recipe.federation is None else budgeted(recipe),
        torch.from_numpy(np.array(subject.dataset.x[rows])).to(subject.device),
        torch.from_numpy(subject.dataset.y[rows]).to(subject.device),
        bounds=subject.bounds,
        seed=client_seed(seeds.derive(subject.seed, "inversion"), number),
        classes=subject.dataset.classes,
        task=subject.task,
        steps=training_steps(recipe, units),
        patients=patients,
    )


def labels_of(subject: Subject, rows: np.ndarray, most: int) -> Tensor:
    """Returns the labels of an update's records in increasing order, or of as many as are searched, in equal shares.

    Args:
        subject: with its data.
        rows: (b,) positions of the records.
        most: how many records are searched.

    Returns:
        (min(b, most),) labels.
    """
    y = np.sort(subject.dataset.y[rows])
    return torch.from_numpy(y[np.linspace(0, len(y) - 1, min(len(y), most)).round().astype(int)])


def _private(recipe: Recipe, epsilon: float) -> Recipe | None:
    """Returns the recipe with privacy; None where it excludes privacy."""
    try:
        return _with_privacy(recipe, Privacy(epsilon=epsilon))
    except ValueError:
        return None


def _with_privacy(recipe: Recipe, privacy: Privacy | None) -> Recipe:
    """Returns the recipe with another privacy, checked as a study's is."""
    return Recipe(**{name: getattr(recipe, name) for name in Recipe.model_fields if name != "privacy"}, privacy=privacy)
