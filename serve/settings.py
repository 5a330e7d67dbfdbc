"""Settings of a service, as ``serve run`` and a Serve configuration file give them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from assay.cluster.resources import Reservation
from assay.cluster.waiting import WAIT
from assay.errors import SpecError
from assay.registry import explain, first_mistake
from assay.study.spec import PathName
from serve.audit_log.retention import DAYS
from serve.auth.settings import VARIABLE
from serve.repository.entries import Source

NONE = "none"
"""Value of ``log`` and of ``tokens``: no decision is logged, no token is asked for."""


class Serving(BaseModel):
    """Settings of a service; each may be given as ``key=value`` to ``serve run``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: str = ""
    """Folder or URI of a repository: all its models are served, and followed as they change. Else one model is served,
    which ``results`` and ``recipe`` name."""
    model: str = ""
    """Only this model of the repository."""
    results: str = ""
    """Folder or URI of a study."""
    recipe: str = ""
    cohort: str | None = None
    """Name of the cohort; by default the first that has the recipe."""
    fold: int = Field(default=1, ge=1)
    repeat: int = Field(default=1, ge=1)
    client: str = ""
    """Client whose own model is served, where the recipe personalises: its site, or its number; by default the shared
    model."""
    name: PathName | None = None
    """Name of the model in the paths of all calls; by default the name of the recipe."""
    public: bool = False
    """Whether calls from other machines are allowed; refused for a model whose privacy claim does not hold."""
    ledger: str | None = None
    """Folder of the ledgers, where a public model is charged once, before its first answer; by default beside the
    folder of the results."""
    budget: float | None = Field(default=None, gt=0)
    """Total ε of all releases from the data; needed at the first release. A different value is refused later."""
    purpose: str = "served to others"
    """For the processing record."""
    tokens: str | None = None
    """File of the tokens of those who may call; ``none`` asks for none. By default what ``ASSAY_SERVE_AUTH`` says, and
    if that is not set, ``tokens.json`` beside the folder of the results."""
    port: int = Field(default=8000, ge=1, le=65535)
    """Port, if Serve is started on this machine; on a cluster its configuration decides."""
    grpc_port: int = Field(default=0, ge=0, le=65535)
    """Port at which each replica offers the Open Inference Protocol over gRPC; 0 offers none. Replicas of a machine
    share it."""
    grpc_behind_tls: bool = False
    """Whether a program in front of the port of gRPC ends TLS. Without it, and without a certificate in
    ``ASSAY_SERVE_LIMITS``, a public service offers no gRPC."""
    replicas: int = Field(default=1, ge=1)
    threads: int = Field(default=1, ge=1)
    """Torch threads of a replica, for each of which it reserves a CPU."""
    gpus: float = Field(default=0.0, ge=0, le=1)
    """GPU that a replica reserves, and on which its model answers: 1, or a share such as 0.25. With 0 it answers on the
    CPU."""
    wait: float = Field(default=WAIT, ge=0, allow_inf_nan=False)
    """Seconds to wait for a machine with room for a replica, on a cluster whose machines still have to start."""
    ongoing: int = Field(default=64, ge=1)
    """Simultaneous calls of a replica; they share batches."""
    queued: int = Field(default=32, ge=1)
    """Waiting calls; the next call gets status 503 at once."""
    log: str | None = None
    """Folder of the decision log, for all models and replicas; ``none`` keeps nothing. By default ``decisions`` beside
    the folder of the results."""
    log_days: int = Field(default=DAYS, ge=1)
    """Days after which files of the log are deleted. High-risk systems must keep theirs for at least six months (EU AI
    Act, Art. 19 and 26(6))."""
    log_full: Literal["refuse", "continue"] = "refuse"
    """Where the log cannot be written: calls get status 503, or go on and are counted as lost."""
    log_sync: Literal["batches", "always"] = "batches"
    """Whether lines are synced within a second or 64 lines, or each answer waits until its line is on disk."""

    @property
    def log_folder(self) -> Path | None:
        """Folder of the decision log; None where nothing is kept."""
        assert self.log is not None, "read_settings fills it in"
        return None if self.log == NONE else Path(self.log)

    @model_validator(mode="after")
    def _one_of_both(self) -> "Serving":
        if bool(self.repository) == bool(self.results and self.recipe):
            raise ValueError("give a repository, or results and recipe")
        if self.repository and (self.results or self.recipe or self.name):
            raise ValueError("with a repository, its entries name the models: leave out results, recipe and name")
        return self

    @property
    def known_as(self) -> str:
        """Name of the model in the paths of all calls."""
        return self.name or self.recipe or self.model or "models"

    @property
    def reserved(self) -> Reservation:
        """What each replica reserves."""
        return Reservation(cpus=self.threads, gpus=self.gpus)

    @property
    def source(self) -> Source:
        """The trial that is served."""
        return Source(**{key: getattr(self, key) for key in Source.model_fields if key != "artefact"})


def read_settings(given: Mapping[str, str]) -> Serving:
    """Reads the settings of a service.

    Args:
        given: as text.

    Returns:
        The settings, with absolute paths of the results and of the decision log.

    Raises:
        SpecError: one is unknown or not allowed.
    """
    try:
        found = Serving.model_validate(dict(given))
    except ValidationError as error:
        message = f"serve: {'; '.join(explain(error))}; settings: {', '.join(Serving.model_fields)}"
        raise SpecError(message, **first_mistake(error)) from None
    places = {key: absolute(value) for key in ("results", "repository") if (value := getattr(found, key))}
    found = found.model_copy(update=places)
    return found.model_copy(update={"log": _log_of(found), "tokens": _tokens_of(found)})


def absolute(location: str) -> str:
    """Returns a folder with its full path, for processes that run elsewhere; a URI stays as it is.

    Args:
        location: folder or URI.
    """
    return location if "://" in location else str(Path(location).expanduser().resolve())


def _tokens_of(serving: Serving) -> str | None:
    """Returns the absolute path of the file of tokens, ``none``, or None where the environment says who may call."""
    if serving.tokens is None and VARIABLE in os.environ:
        return None
    return _beside(
        serving,
        "tokens",
        "tokens.json",
        absent="for a file of tokens",
        needed="the tokens of those who may call are read from a file",
        instead="tokens=/FILE, which python -m jobs.tokens add NAME --file /FILE makes, or tokens=none, with which "
        "every program that reaches the service may call",
    )


def _log_of(serving: Serving) -> str:
    """Returns the absolute path of the decision log, or ``none``."""
    return _beside(
        serving,
        "log",
        "decisions",
        absent="where decisions could be logged",
        needed="decisions are logged in a folder that can be appended to and synced",
        instead="log=/FOLDER on a volume that stays, or log=none, which keeps nothing",
    )


def _beside(serving: Serving, setting: str, name: str, *, absent: str, needed: str, instead: str) -> str:
    """Returns the absolute path that a setting gives, or ``none``; by default that of a name beside what is served.

    Args:
        serving: the settings.
        setting: its name.
        name: of the file or folder beside the repository or the results.
        absent: what is missed where these lie at a URI.
        needed: why the setting may be no URI.
        instead: what can be given.

    Raises:
        SpecError: it is a URI, or is not given and what is served lies at one.
    """
    given, place = getattr(serving, setting), serving.repository or serving.results
    if given == NONE:
        return NONE
    if given is None and "://" not in place:
        return str(Path(place).parent / name)
    if given is None or "://" in given:
        nothing = f"{place} has no folder beside it {absent}"
        why = nothing if given is None else f"{setting}={given} is a URI, and {needed}"
        raise SpecError(f"{why}; give {instead}", setting=setting, given=given, allowed=NONE)
    return str(Path(given).expanduser().resolve())
