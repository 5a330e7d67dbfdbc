"""Recipes: independent choices that the one training loop combines.

``data`` says how the training records are prepared, ``objective`` how a batch becomes a loss, ``privacy`` how gradients
become an update, ``federation`` where the data lives, ``training`` how long and how fast. ``incompatible.INCOMPATIBLE``
lists the choices that cannot be combined.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from assay.errors import IncompatibleRecipeError, SpecError
from assay.incompatible import INCOMPATIBLE
from assay.registry import Number, Settings, choice_of
from assay.threats import Norm


class EarlyStopping(Settings):
    """Keeps the weights with the best accuracy under attack on the validation split, and stops when it no longer rises.

    Robustness falls with longer adversarial training long before accuracy does (Rice et al. 2020, arXiv:2002.11569).
    """

    epsilon: Number = Field(ge=0)
    """Radius of the attack, in the units of the data; 0 means accuracy without attack."""
    norm: Norm = "linf"
    steps: int = Field(default=10, ge=1)
    """Steps of PGD on the margin of the logits."""
    relative_step: float = Field(default=2.5, gt=0)
    """Size of a step is ``relative_step * epsilon / steps``."""
    every: int = Field(default=1, ge=1)
    """Epochs between two validations; the last epoch is always validated."""
    patience: int = Field(default=10, ge=1)
    """Validations in a row without improvement after which training ends."""


class Training(Settings):
    """Length, speed and optimiser of a training."""

    epochs: int = Field(default=40, ge=1)
    batch_size: int = Field(default=64, ge=1)
    """Records per step; the expected number under Poisson sampling. Patients per step where privacy protects patients:
    an epoch then draws each patient once in expectation."""
    optimizer: Literal["sgd", "adam"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of ``sgd``."""
    weight_decay: float = Field(default=0.0, ge=0)
    early_stopping: EarlyStopping | None = None
    """Not used for the teachers of a recipe: a teacher need not be robust."""
    averaging: float = Field(default=0.0, ge=0, lt=1)
    """Decay of an exponential moving average of the weights, updated after each step; the average is the trained model.
    0 uses the last weights. Step t, from 1, has decay min(``averaging``, (1 + t) / (10 + t)), so that the first weights
    lose their influence soon (De et al. 2022, arXiv:2204.13650). It is post-processing: it costs no ε."""
    precision: Literal["float32", "bf16"] = "float32"
    """``bf16`` computes the layers of the network in bfloat16 during training (autocast), attacks on it included, which
    is faster on hardware that has it. Weights, losses, gradients, their sums, and every evaluation stay float32. It
    changes the weights, so it is part of what names a model."""
    records_at_once: int | None = Field(default=None, ge=1)
    """Greatest number of records in one forward pass of a worker: a large batch is processed in pieces, and their
    gradients are summed (gradient accumulation). In a study file, ``accumulate: n`` is another way to write it: the
    ``batch_size`` in n pieces. It limits memory and changes results only by rounding, except with dropout. None takes a
    worker's share of a batch at once. With ``privacy.augmentations``, each record has that many rows. The records of a
    protected patient stay in one piece, so it must be at least ``privacy.records_per_patient``."""

    @model_validator(mode="before")
    @classmethod
    def _accumulates(cls, values: Any) -> Any:
        """Reads ``accumulate: n`` as the ``records_at_once`` of which n make a batch."""
        if not isinstance(values, Mapping) or "accumulate" not in values:
            return values
        values = dict(values)
        pieces = values.pop("accumulate")
        if values.get("records_at_once") is not None:
            raise SpecError(
                f"training has accumulate: {pieces} and records_at_once: {values['records_at_once']}, which are two "
                "ways to say how large the pieces of a batch are; keep one of them",
                setting="accumulate",
                given=pieces,
                allowed="without records_at_once",
            )
        size = values.get("batch_size", cls.model_fields["batch_size"].default)
        if type(pieces) is not int or type(size) is not int or not 1 <= pieces <= size:
            raise SpecError(
                f"training.accumulate is {pieces!r}; give the number of pieces of a batch of {size}, from 1 to {size}",
                setting="accumulate",
                given=pieces,
                allowed=f"1 to {size}",
            )
        values["records_at_once"] = None if pieces == 1 else -(-size // pieces)
        return values


class Privacy(Settings):
    """DP-SGD (Abadi et al. 2016) for a target ε: each patient of the training split is protected.

    The guarantee is (``epsilon``, ``delta``)-differential privacy under adding or removing one patient with all of its
    records; where records have no patients, under adding or removing one record. See ``unit``.
    """

    epsilon: float = Field(gt=0)
    """Target ε by the RDP accountant; the noise is calibrated to it."""
    trainings: int = Field(default=1, ge=1)
    """Number of trainings on the same records that share the budget; the teachers of a recipe are added to it."""
    delta: float = Field(default=1e-5, gt=0, lt=1)
    """Must be below 1 / number of patients (of records, where those are protected), or training is refused."""
    unit: Literal["patient", "record"] | None = None
    """Who is protected. ``patient``: patients are sampled, at most ``records_per_patient`` records of each enter a
    step, and the gradient of their mean loss is clipped (user-level DP-SGD, McMahan et al. 2018, arXiv:1710.06963).
    ``record``: single records are protected, which is a weak guarantee for a patient with several. By default patients
    where the data have groups, records otherwise."""
    records_per_patient: int = Field(default=16, ge=1)
    """Greatest number of records of a patient in one step, drawn at random. More of them cost time but no ε."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Clipping norm of the gradient of one patient, or of one record: see ``unit``."""
    clipping: Literal["flat", "per_layer", "automatic"] = "flat"
    """How one record's gradient is bounded by ``max_grad_norm``; ε is the same for all. ``flat`` scales a gradient that
    is longer (Abadi et al. 2016); ``per_layer`` gives each layer an equal part of the bound and scales each layer
    separately (McMahan et al. 2018, arXiv:1710.06963); ``automatic`` scales every gradient close to the bound, short
    ones too, so that only the learning rate needs tuning (Bu et al. 2022, arXiv:2206.07136)."""
    augmentations: int = Field(default=1, ge=1)
    """Augmented copies of each record. Their mean loss is the loss of the record, *before* its gradient is clipped:
    less variance at the same ε (augmentation multiplicity, De et al. 2022, arXiv:2204.13650)."""
    noise: Literal["seeded", "entropy"] = "seeded"
    """``seeded`` is reproducible and such a model may never be released; ``entropy`` draws from a seed that is not
    stored."""


class Federation(Settings):
    """Clients that keep their records and train in synchronous rounds (McMahan et al. 2017)."""

    strategy: choice_of("strategy") = Field(default="fedavg")  # type: ignore[valid-type]
    """How the server combines the clients' updates; ``flower:NAME`` runs a strategy of Flower unmodified."""
    personalisation: choice_of("personalisation") | None = None  # type: ignore[valid-type]
    """How each client gets a model of its own; None gives all the same one."""
    transforms: tuple[choice_of("transform"), ...] = ()  # type: ignore[valid-type]
    """What makes updates smaller before they are sent, in this order."""
    optimizer_state: Literal["fresh", "kept"] = "fresh"
    """Whether a client's optimiser starts anew in each round, as in the papers, or keeps its momentum."""
    buffers: Literal["pooled", "local", "refused"] = "pooled"
    """What becomes of running statistics of batch norm: ``pooled`` joins the moments of all clients, ``local`` leaves
    each client its own, ``refused`` refuses networks that have some."""
    clients: int = Field(default=10, ge=1)
    rounds: int = Field(default=20, ge=1)
    local_epochs: int = Field(default=2, ge=1)
    local_steps: int | None = Field(default=None, ge=1)
    """Optimiser steps of each client in a round, whatever its number of records, in place of ``local_epochs``."""
    partition: Literal["iid", "dirichlet", "pathological", "quantity", "natural"] = "iid"
    """How records are dealt to clients; whole patients, where the data name them. ``iid`` deals them at random;
    ``dirichlet`` gives each client another mixture of labels; ``pathological`` gives each client records of
    ``classes_per_client`` classes alone (McMahan et al. 2017); ``quantity`` gives clients different numbers of records;
    ``natural`` makes each site, or patient, of the data a client, so that ``clients`` is not used."""
    alpha: float = Field(default=0.5, gt=0, le=1e6, allow_inf_nan=False)
    """Concentration of ``dirichlet`` and ``quantity``: the smaller, the less alike the clients (Hsu et al. 2019,
    arXiv:1909.06335)."""
    smallest_client: int = Field(default=10, ge=1)
    """Least number of records (of patients, where records have them) of every client of ``dirichlet`` and ``quantity``.
    Draws that leave a client fewer are repeated, which makes clients more alike than ``alpha`` says."""
    classes_per_client: int = Field(default=2, ge=1)
    """Number of classes of every client of ``pathological``."""
    by: Literal["site", "patient"] = "site"
    """What each client of ``natural`` is."""
    participation: Literal["all", "fraction", "poisson"] = "all"
    """Who is asked in a round: all clients, a fixed number of them drawn without replacement, or each with the same
    probability independently of the others."""
    share: float = Field(default=1.0, gt=0, le=1)
    """Share of the clients that are drawn by ``fraction``, at least one; probability of ``poisson``."""
    available: float = Field(default=1.0, gt=0, le=1)
    """Probability that a client that is asked is there: for studies of hospitals that drop out."""
    policy: Literal["all", "at_least", "those_that_answer"] = "all"
    """Whose answers complete a round: of all that were asked, of ``at_least`` clients, or of whoever answers before the
    deadline. Otherwise the round, and the training, fails by its deadline."""
    at_least: int = Field(default=1, ge=1)
    """Answers that complete a round of the policy ``at_least``."""
    deadline_seconds: float = Field(default=600.0, gt=0)
    """Seconds after which a client that has not answered counts as failed, from its own start: clients that share a
    worker train one after the other."""

    @model_validator(mode="before")
    @classmethod
    def _earlier_setting(cls, values: Any) -> Any:
        """Reads ``proximal_mu`` beside ``strategy: fedprox``, where earlier study files have it."""
        if not isinstance(values, dict) or "proximal_mu" not in values:
            return values
        values = dict(values)
        strength, strategy = values.pop("proximal_mu"), values.get("strategy", "fedavg")
        settings = {"name": strategy} if isinstance(strategy, str) else strategy
        if not isinstance(settings, Mapping) or settings.get("name") != "fedprox" or "proximal_mu" in settings:
            raise SpecError(
                f"federation.proximal_mu is {strength}, and the strategy is {strategy}: only fedprox has it; write "
                "strategy: {name: fedprox, proximal_mu: 0.1}",
                setting="federation.proximal_mu",
                given=strength,
                allowed="strategy: {name: fedprox, proximal_mu: ...}",
            )
        values["strategy"] = {**settings, "proximal_mu": strength}
        return values

    @model_validator(mode="after")
    def _can_be_met(self) -> "Federation":
        if self.partition != "natural":
            self.dealt_to(self.clients)
        if self.participation == "all" and self.share != 1.0:
            raise SpecError(
                f"federation.share is {self.share:g}, but participation is all; set it to fraction or poisson",
                setting="federation.share",
                given=self.share,
                allowed=1,
            )
        return self

    @model_validator(mode="after")
    def _combines(self) -> "Federation":
        personal = self.personalisation
        if personal is not None and not personal.shares_all and self.strategy.summed_vectors:
            raise IncompatibleRecipeError(
                f"strategy {self.strategy.name} × personalisation {personal.name}: its vectors correct the steps of "
                "all parameters, and those of each client's own layers have nothing in common; choose another "
                "strategy, or ditto, apfl or fine_tuning",
                setting="federation.personalisation",
                given=personal.name,
                allowed=("ditto", "apfl", "fine_tuning"),
            )
        return self

    def dealt_to(self, clients: int) -> "Federation":
        """Returns the federation of so many clients, which the data say where each site, or patient, is one.

        Args:
            clients: to which records were dealt.

        Returns:
            The federation.

        Raises:
            SpecError: the policy asks for more answers than there are clients.
        """
        dealt = self.model_copy(update={"clients": clients})
        if dealt.policy == "at_least" and dealt.at_least > dealt.asked:
            raise SpecError(
                f"federation.at_least is {dealt.at_least}, and a round asks {dealt.asked} of {clients} clients; "
                f"set it to at most {dealt.asked}",
                setting="federation.at_least",
                given=dealt.at_least,
                allowed=dealt.asked,
            )
        return dealt

    @property
    def asked(self) -> int:
        """Greatest number of clients that a round asks."""
        return max(1, round(self.share * self.clients)) if self.participation == "fraction" else self.clients

    @property
    def least_answers(self) -> int:
        """Least number of clients that a completed round may consist of."""
        if self.policy == "at_least":
            return self.at_least
        whole = self.policy == "all" and self.participation != "poisson" and self.available == 1
        return self.asked if whole else 1

    @property
    def passes(self) -> int:
        """Passes of one training of a client over its records, in all rounds and after them."""
        plain = self.rounds * self.local_epochs
        return plain if self.personalisation is None else self.personalisation.passes(self.rounds, self.local_epochs)

    def steps_of_round(self, steps_per_epoch: int) -> int:
        """Returns the steps of the shared training of a client in a round.

        Args:
            steps_per_epoch: of the client.

        Returns:
            The number of steps.
        """
        return self.local_steps or self.local_epochs * steps_per_epoch

    def steps(self, steps_per_epoch: int) -> int:
        """Returns the steps of one training of a client, in all rounds and after them.

        Args:
            steps_per_epoch: of the client.

        Returns:
            The number of steps, for which noise is calibrated.
        """
        further = self.passes - self.rounds * self.local_epochs
        return self.rounds * self.steps_of_round(steps_per_epoch) + further * steps_per_epoch

    @property
    def private_trainings(self) -> int:
        """Trainings on a client's records that share the budget of a private recipe."""
        return 1 if self.personalisation is None else self.personalisation.trainings


class Recipe(Settings):
    """The choices that define how a model is trained."""

    data: tuple[choice_of("treatment"), ...] = ()  # type: ignore[valid-type]
    """Treatments of the training records before training, in this order; a client treats its own records."""
    objective: choice_of("objective") = Field(default="standard")  # type: ignore[valid-type]
    privacy: Privacy | None = None
    federation: Federation | None = None
    training: Training = Training()

    @field_validator("data")
    @classmethod
    def _attacks_come_first(cls, data: tuple[Any, ...]) -> tuple[Any, ...]:
        """Refuses a filter before a poisoning attack, which it could not find, and two attacks of one kind."""
        for place, step in enumerate(data):
            before = data[:place]
            filters = [other.name for other in before if other.defends and other.treats]
            if step.attacks and filters:
                raise IncompatibleRecipeError(
                    f"data lists {filters[0]} before {step.name}: it would filter records that nobody has attacked "
                    "yet; list attacks first",
                    given=filters[0],
                    allowed=f"after {step.name}",
                )
            if step.once and any(type(other) is type(step) for other in before):
                raise IncompatibleRecipeError(
                    f"data lists {step.name} twice, and its evaluation measures one: give each a recipe of its own",
                    given=step.name,
                    allowed="once",
                )
        return data

    @model_validator(mode="after")
    def _is_possible(self) -> "Recipe":
        for rule in INCOMPATIBLE:
            if rule.applies(self):
                raise IncompatibleRecipeError(f"{rule.what}: {rule.why}", given=rule.what)
        return self

    @model_validator(mode="after")
    def _copies_of_a_record_differ(self) -> "Recipe":
        copies = 1 if self.privacy is None else self.privacy.augmentations
        if copies > 1 and not any(step.augments for step in self.data):
            raise IncompatibleRecipeError(
                f"privacy.augmentations is {copies}, but nothing in data augments records, so all copies of one would "
                "be equal; list a treatment that does, such as flip, crop, jitter or word_dropout, or set it to 1",
                setting="privacy.augmentations",
                given=copies,
                allowed=1,
            )
        return self

    @model_validator(mode="after")
    def _works_off_a_batch_in_pieces(self) -> "Recipe":
        pieces = self.training.records_at_once
        whole = [step.name for step in self.data if step.weighs]
        if not self.objective.per_record:
            whole.append(self.objective.name)
        if pieces is not None and whole:
            raise IncompatibleRecipeError(
                f"training.records_at_once is {pieces}, but {whole[0]} looks at all records of a batch together; "
                "set it to null, and take a batch_size that fits into memory",
                setting="training.records_at_once",
                given=pieces,
            )
        return self

    @property
    def passes(self) -> int:
        """How often one training sees each training record; in a federation, over all rounds of a client."""
        if self.federation is None:
            return self.training.epochs
        return self.federation.passes

    def stages(self) -> list["Recipe"]:
        """Returns the trainings that this recipe needs, teachers first. All use the same records and share one budget.

        Returns:
            A recipe for each training; the last one trains the model itself.
        """
        objectives = [*self.objective.teachers, self.objective]
        privacy = self.privacy and self.privacy.model_copy(
            update={"trainings": self.privacy.trainings * len(objectives)}
        )
        without_stopping = self.training.model_copy(update={"early_stopping": None})
        return [
            self.model_copy(
                update={
                    "objective": objective,
                    "privacy": privacy,
                    "training": self.training if objective is self.objective else without_stopping,
                }
            )
            for objective in objectives
        ]
