"""What users are told, as they read it: one text, which a reviewer reads in the diff.

Other tests look at an error's fields; its wording stands here alone. After a change of wording, write the text anew::

    ASSAY_REWRITE_MESSAGES=1 python -m pytest tests/test_messages.py
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from torch import nn

import assay.attacks
import assay.data
import assay.evaluations
import assay.models
import assay.objectives  # noqa: F401
from assay.cluster.resources import REPLICA, Reservation, checked_gpus, refuse_impossible
from assay.cluster.session import refuse_address
from assay.dashboard.folders import find_folders
from assay.data.images.depth import refuse_few_bits
from assay.data.images.files import Decoder
from assay.data.partition import partition
from assay.data.splits import Splitting, refuse_beyond_official
from assay.errors import UserError
from assay.incompatible import INCOMPATIBLE
from assay.models.base import Form
from assay.models.cnn import CNN
from assay.models.lstm import LSTM
from assay.models.representation import Represented
from assay.models.resnet import ResNet18
from assay.models.text_cnn import TextCNN
from assay.recipes import Federation, Privacy, Recipe
from assay.registry import build, explain, names
from assay.release.export import report_of
from assay.store.folder import Store
from assay.study.external import given_study
from assay.study.plan import forecast_study, plan
from assay.study.reading import build_study, read_study
from assay.study.spec import with_one_recipe
from assay.study.sweep import Sweep, base_of
from assay.study.sweep_prepare import prepare_sweep
from assay.tasks.classification import Classification
from jobs.refusals import check_arguments
from jobs.submit import JOBS, url
from serve.audit_log.keys import Keys
from serve.audit_log.log import DecisionLog
from serve.audit_log.verify import verify
from serve.auth.environment import environment, require_shared
from serve.auth.jwt import KeySet
from serve.auth.settings import AuthSettings
from serve.auth.tokens import add_token, read_tokens, revoke_token
from serve.grpc_.credentials import require_tls
from serve.limits.settings import Limits
from serve.settings import read_settings

TEXT = Path(__file__).with_name("messages.txt")
STUDIES = Path(__file__).parents[1] / "jobs" / "studies"
HOW = "ASSAY_REWRITE_MESSAGES=1 python -m pytest tests/test_messages.py"
STUDY: dict[str, Any] = {
    "name": "tiny",
    "split": {"folds": 2},
    "cohorts": {"made": {"dataset": "wdbc", "model": "mlp", "recipes": {"standard": {}, "slow": {}}}},
}
PRIVATE = {"privacy": {"epsilon": 1}}
PGD = {"name": "pgd", "epsilon": 0.1}
GRID = {"objective.epsilon": {"grid_search": [0.1, 0.2]}}
CLINIC: dict[str, Any] = {"name": "classification", "decide_at": "operating_point"}


def study(*, split: dict[str, Any] | None = None, recipes: dict[str, Any] | None = None, **cohort: Any) -> Any:
    """A study as a file would say it, with changes."""
    made = {**STUDY["cohorts"]["made"], **({"recipes": recipes} if recipes else {}), **cohort}
    return {**STUDY, "split": split or STUDY["split"], "cohorts": {"made": made}}


def required(*requirements: str, candidates: tuple[str, ...] | list[str] = ("slow",), **cohort: Any) -> Any:
    """A study whose cohort states these requirements."""
    return study(requirements=list(requirements), candidates=list(candidates), **cohort)


def written(content: Any, *assignments: str) -> Callable[[Path], object]:
    """Reads a study from a file that holds this."""

    def read(folder: Path) -> object:
        (folder / "tiny.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return read_study(str(folder / "tiny.yaml"), assignments, folder=STUDIES)

    return read


def recipe(**choices: Any) -> Callable[[Path], object]:
    return lambda folder: Recipe(**choices)


def threat(given: str, *attacks: str) -> Callable[[Path], object]:
    return lambda folder: given_study(
        "mine", model="m:f", data={"path": "/x.npz"}, threat=given, seed=0, attacks=attacks
    )


class Drawn:
    """What tune.uniform returns, as far as a sweep reads it."""

    lower, upper = 0.1, 0.2

    class Uniform:
        pass

    def get_sampler(self) -> object:
        return self.Uniform()


def swept(point: dict[str, Any], **asked: Any) -> Callable[[Path], object]:
    """A sweep over settings of the recipe ``pgd``, at a point."""
    base = build_study(study(recipes={"pgd": {"objective": PGD}, "standard": {}}), "tiny")

    def at(folder: Path) -> object:
        if asked:
            settings = {"name": "mine", "space": lambda radius: GRID, "cohort": None, "recipe": "pgd"}
            return prepare_sweep(base, **{**settings, "asked": ("accuracy",), "tested": "test", "folds": 1, **asked})
        one = base_of(base, cohort=None, recipe="pgd", asked=("accuracy",), tested="test")
        return Sweep(space="mine", study=one, keys=tuple(point)).recipe_at(point)

    return at


def official(folder: Path) -> None:
    x = np.random.default_rng(0).uniform(size=(40, 3))
    np.savez(folder / "parted.npz", x=x, y=np.arange(40) % 2, split=np.repeat(["train", "test"], 20))
    given = {"name": "arrays", "path": str(folder / "parted.npz")}
    refuse_beyond_official("--fold", 2, build("dataset", given).load(), Splitting())  # type: ignore[attr-defined]


def wide_weights(folder: Path) -> None:
    (folder / "w.safetensors").write_bytes(b"PK\x03\x04 and so on")
    ResNet18(weights=str(folder / "w.safetensors")).build((3, 40, 40), 2, seed=0)


def token_for(
    folder: Path, name: str = "ward-3", scopes: Sequence[str] = ("predict",), days: float | None = None
) -> str:
    return add_token(folder / "tokens", name, scopes=scopes, days=days)


def open_tokens(folder: Path) -> object:
    (folder / "open").write_text("{}")
    (folder / "open").chmod(0o644)
    return read_tokens(folder / "open")


def damaged_tokens(folder: Path) -> object:
    (folder / "damaged").write_text("{}")
    (folder / "damaged").chmod(0o600)
    return read_tokens(folder / "damaged")


def proxy_folder(folder: Path, *, mode: int) -> object:
    made = folder / ("x" * 32)
    made.mkdir(exist_ok=True)
    made.chmod(mode)
    return environment(Limits(), AuthSettings(), folder=made, haproxy=True)


def decided(folder: Path, *then: Callable[[], object]) -> None:
    """A decision log with no answer in it, and what is done with it."""
    if not (folder / "keys").exists():
        DecisionLog(folder).close()
    (folder / "keys").chmod(0o600)
    for step in then:
        step()


CASES: dict[str, Callable[[Path], object]] = {
    "a key that nobody knows": written({**STUDY, "sed": 1}),
    "a key of the split that nobody knows": written(study(split={"fold": 3})),
    "a number below its limit": written(study(split={"folds": 0})),
    "a word for a number": written(study(split={"folds": "many"})),
    "two mistakes": written({**study(split={"folds": 0}), "threads": 0}),
    "an unknown data set": written(study(dataset="wdcb")),
    "a data set without its path": written(study(dataset={"name": "arrays"})),
    "an unknown model": written(study(model="perceptron")),
    "a model that is a number": written(study(model=3)),
    "an unknown evaluation": written(study(evaluations=["accuracy", "speed"])),
    "an unknown objective": written(study(recipes={"standard": {"objective": "trades_"}})),
    "an objective without its radius": written(study(recipes={"standard": {"objective": "pgd"}})),
    "one of two words": written(study(recipes={"standard": {"training": {"optimizer": "lion"}}})),
    "a treatment that is misspelt": written(study(recipes={"standard": {"data": ["label_flip"]}})),
    "a recipe that is spared and is none": written(
        study(selected_evaluations=[{"recipes": ["quick"], "evaluations": ["cost"]}])
    ),
    "a radius that is not measured": written(
        study(reference_epsilon=0.25, evaluations=[{"name": "robustness", "epsilons": [0.1, 0.3]}])
    ),
    "an unknown task": written(study(task="clasification")),
    "two operating points": written(
        study(task={**CLINIC, "sensitivity": 0.9}, evaluations=[{"name": "accuracy", "sensitivity": 0.95}])
    ),
    "an operating point of ten classes": lambda folder: Classification(**CLINIC).refuse(10),
    "words that are no requirement": written(required("accurate enough")),
    "a requirement of an unknown metric": written(required("acuracy >= 0.9")),
    "a requirement in percent without its sign": written(required("accuracy >= 90")),
    "a requirement in the wrong direction": written(required("accuracy <= 0.9")),
    "a worst case without its radius": written(required("worst case >= 0.7")),
    "a membership rate without the false positives": written(required("membership TPR <= 12 %")),
    "a radius of a requirement that is not measured": written(
        required("worst case at epsilon 0.3 >= 0.7", evaluations=[{"name": "robustness", "epsilons": [0.1, 0.2]}])
    ),
    "a margin against an unknown recipe": written(required("loses at most 3 points against standrad")),
    "a candidate that is no recipe": written(required("accuracy >= 0.9", candidates=["slwo"])),
    "requirements without candidates": written(required("accuracy >= 0.9", candidates=[])),
    "candidates without requirements": written(required(candidates=["slow"])),
    "a requirement that stands twice": written(required("accuracy >= 0.9", "accuracy ≥ 90 %")),
    "an unknown baseline": written({**STUDY, "baseline": "standrad"}),
    "no YAML": written("name: [1, 2"),
    "a list for a study": written("- a\n- list\n"),
    "an unknown study": lambda folder: read_study("quikstart", folder=STUDIES),
    "a study file that is not there": lambda folder: read_study("nowhere/at_all.yaml", folder=STUDIES),
    "an unknown preset": written({**STUDY, "presets": {"smoke": {}, "full": {}}}, "preset=smok"),
    "a preset where there are none": written(STUDY, "preset=smoke"),
    "an assignment without a value": written(STUDY, "split.folds"),
    "an assignment below a number": written({**STUDY, "seed": 0}, "seed.deep=1"),
    "an unknown cohort": lambda folder: with_one_recipe(build_study(STUDY, "t"), cohort="mad", recipe="slow", fold=1),
    "an unknown recipe": lambda folder: with_one_recipe(build_study(STUDY, "t"), cohort=None, recipe="fast", fold=1),
    "a fold too many": lambda folder: with_one_recipe(build_study(STUDY, "t"), cohort=None, recipe="slow", fold=3),
    "a second fold of an official split": official,
    "one fold": lambda folder: list(forecast_study(build_study(study(split={"folds": 1}), "t"))),
    "more clients than records": lambda folder: list(
        forecast_study(build_study(study(recipes={"standard": {**PRIVATE, "federation": {"clients": 400}}}), "t"))
    ),
    "fewer records than clients": lambda folder: partition(
        np.arange(5), np.zeros(5, int), Federation(clients=10), seed=0
    ),
    "fewer audits than there are": lambda folder: plan(
        build_study(study(recipes={"standard": PRIVATE}, evaluations=[{"name": "audit", "audits": 1}]), "t"),
        {"made": build("dataset", "wdbc").load()},  # type: ignore[attr-defined]
    ),
    "privacy and label flips": recipe(data=["label_flips"], **PRIVATE),
    "privacy and early stopping": recipe(training={"early_stopping": {"epsilon": 0.1}}, **PRIVATE),
    "copies of a record that are equal": recipe(privacy=Privacy(epsilon=1, augmentations=8)),
    "pieces of a batch that is weighed": recipe(data=["robust_reweighting"], training={"records_at_once": 32}),
    "a filter before the attack": recipe(data=["knn_sanitation", "label_flips"]),
    "an unknown attack": lambda folder: build("attack", "pdg"),
    "a setting of an attack that nobody knows": lambda folder: build("attack", {"name": "pgd", "step": 3}),
    "a setting out of range": lambda folder: build("attack", {"name": "pgd", "steps": 0}),
    "no name": lambda folder: build("attack", {"steps": 3}),
    "a table for a convolutional network": lambda folder: CNN().build((30,), 2, seed=0),
    "an image for an lstm": lambda folder: LSTM().build((1, 28, 28), 2, seed=0),
    "an image for a text network": lambda folder: TextCNN().build((1, 28, 28), 2, seed=0),
    "a signal for a text network": lambda folder: TextCNN().build_for(
        Form(shape=(2, 50), classes=2, modality="signal"), seed=0
    ),
    "an image that the stem leaves nothing of": lambda folder: ResNet18().build((3, 32, 32), 2, seed=0),
    "weights that are none": wide_weights,
    "a network without features": lambda folder: Represented(nn.Conv1d(1, 2, 3)),
    "an unknown norm": threat("l7"),
    "an L2 threat without radii": threat("l2"),
    "a negative radius": threat("linf:-1"),
    "a point of a sweep that is impossible": swept({"objective.epsilon": -1.0}),
    "a sweep of what the recipe does not have": swept({"privacy.epsilon": 1}),
    "more folds than the study of a sweep has": swept({}, folds=3),
    "an unknown job": lambda folder: check_arguments("studdy", (), JOBS),
    "results for the dashboard that are not there": lambda folder: find_folders([str(folder / "none")]),
    "draws of a grid": swept({}, samples=5),
    "Optuna on a grid": swept({}, search="optuna", tested="validation"),
    "Optuna by test records": swept({}, search="optuna", space=lambda radius: {"objective.epsilon": Drawn()}),
    "a grid of a range": swept({}, search="grid", space=lambda radius: {"objective.epsilon": Drawn()}),
    "a setting without a distribution": swept({}, space=lambda radius: {"objective.epsilon": 0.1}),
    "a goal that nobody measures": swept({}, goals=("accuracy", "robust")),
    "successive halving of a training that is too short": swept({}, scheduler="asha", eta=50),
    "successive halving over epochs that are varied": swept(
        {}, scheduler="asha", space=lambda radius: {"training.epochs": {"grid_search": [20, 40]}}
    ),
    "results of a submitted job that would be lost": lambda folder: check_arguments(
        "study", ("quickstart", "--results", "results/here"), JOBS
    ),
    "a submitted job without a place for its results": lambda folder: check_arguments("study", ("quickstart",), JOBS),
    "a file of a submitted job that is not sent": lambda folder: check_arguments(
        "study", ("mine.yaml", "--results", "/kept"), JOBS
    ),
    "one and a half GPUs": lambda folder: checked_gpus(1.5),
    "more GPUs than any machine has": lambda folder: refuse_impossible(
        Reservation(cpus=1, gpus=16), [{"CPU": 96.0, "GPU": 8.0}, {"CPU": 8.0}], grows=True
    ),
    "more threads than this machine has": lambda folder: refuse_impossible(
        Reservation(cpus=64), [{"CPU": 2.0}], grows=False
    ),
    "a GPU of a replica where there is none": lambda folder: refuse_impossible(
        Reservation(cpus=1, gpus=1), [{"CPU": 2.0}], grows=False, asker=REPLICA
    ),
    "the address of a dashboard in the place of a cluster": lambda folder: refuse_address("http://head:8265"),
    "an address that is none": lambda folder: url("ftp://head:8265"),
    "a token for somebody who has one": lambda folder: [token_for(folder) for _ in range(2)],
    "a token without a name": lambda folder: token_for(folder, name=""),
    "a token for what is no scope": lambda folder: token_for(folder, scopes=["predict", "everything"]),
    "a token for no time": lambda folder: token_for(folder, days=0),
    "a token that nobody has": lambda folder: (token_for(folder, "ward-4"), revoke_token(folder / "tokens", "ward-5")),
    "tokens that are not there": lambda folder: read_tokens(folder / "none"),
    "tokens that others can read": open_tokens,
    "tokens that are none": damaged_tokens,
    "keys without an issuer": lambda folder: AuthSettings(jwks="keys.json"),
    "keys of a plain address": lambda folder: KeySet("http://keys.example/jwks"),
    "a scope that a JSON web token cannot have": lambda folder: AuthSettings(jwt_scopes=("everything",)),
    "a rate of nothing": lambda folder: AuthSettings(per_second=0),
    "a cluster without the variables of a service": lambda folder: require_shared({}, AuthSettings(), public=True),
    "gRPC without TLS for other machines": lambda folder: require_tls(Limits(), 8001, public=True, behind_tls=False),
    "a folder of the proxy that others can open": lambda folder: proxy_folder(folder, mode=0o755),
    "a folder of the proxy with a long path": lambda folder: proxy_folder(folder, mode=0o700),
    "a folder that holds no decision log": verify,
    "keys of a decision log that others can read": lambda folder: decided(
        folder, lambda: (folder / "keys").chmod(0o644), lambda: Keys(folder)
    ),
    "a decision log at a URI": lambda folder: read_settings(
        {"results": "s3://bucket/mine", "recipe": "standard", "log": "s3://bucket/log"}
    ),
    "results at a URI without a decision log": lambda folder: read_settings(
        {"results": "s3://bucket/mine", "recipe": "standard"}
    ),
    "films of fewer bits than their files have": lambda folder: refuse_few_bits(
        "films", Decoder(height=8, width=8, channels=1), 4095
    ),
    "a report of nothing": lambda folder: report_of(Store(str(folder / "typo")), lambda *_: ""),
}


def told(case: Callable[[Path], object], folder: Path) -> str:
    """What a user is told."""
    with pytest.raises((UserError, ValidationError)) as caught:
        case(folder)
    error = caught.value
    said = str(error) if isinstance(error, UserError) else "\n".join(explain(error))
    for kind in ("attack", "dataset", "evaluation", "model", "objective", "treatment"):
        # Not every new method changes the text.
        said = said.replace(", ".join(names(kind)), f"[every {kind}]")
    return said.replace(str(folder), "/here")


def test_what_users_are_told(tmp_path: Path) -> None:
    parts = [f"## {name}\n{told(case, tmp_path)}\n" for name, case in CASES.items()]
    rendered = "\n".join(parts)
    if os.environ.get("ASSAY_REWRITE_MESSAGES"):
        TEXT.write_text(rendered)
    assert rendered == TEXT.read_text(), f"what users are told has changed; read it, then write it anew: {HOW}"


def test_every_rule_of_what_excludes_what_ends_with_a_way_out() -> None:
    assert [rule.what for rule in INCOMPATIBLE if ";" not in rule.why] == []
