"""A package outside of the tree adds one of each kind, by the examples of CONTRIBUTING.md, and nothing here knows it.

The examples run in a process of their own: what they register must not be known to other tests.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from torch import nn
from typer.testing import CliRunner

import assay.evaluations  # noqa: F401
from assay.cluster.session import plugin_environment
from assay.errors import UserError
from assay.evaluations.base import Evaluation
from assay.evaluations.subject import Subject
from assay.metrics import GROUPS, declared
from assay.registry import PLUGINS
from assay.results import Finding, Measurement
from assay.study.asking import answers_to
from assay.study.sources import closure, digest_of, modules_behind
from jobs import study
from jobs.console import application
from jobs.refusals import check_arguments
from jobs.submit import JOBS, runtime_environment
from tests.mistakes import refused

ROOT = Path(__file__).parents[1]
STUDY = {
    "name": "triage",
    "split": {"folds": 2},
    "cohorts": {
        "desk": {
            "dataset": "triage",
            "model": {"name": "mlp", "hidden": [4]},
            "evaluations": [
                {"name": "accuracy", "draws": 50},
                "brier",
                {
                    "name": "robustness",
                    "epsilons": [0.3],
                    "steps": 2,
                    "adaptive": False,
                    "attacks": ["sign_flip"],
                    "carlini_wagner": {"steps": 5, "search_steps": 1},
                },
            ],
            "recipes": {
                "standard": {"training": {"epochs": 2, "learning_rate": 0.01}},
                "smoothed": {"objective": "label_smoothing", "training": {"epochs": 2, "learning_rate": 0.01}},
            },
        }
    },
}
RUN = """
import json, sys
from pathlib import Path
import torch
from assay.executors import LocalExecutor
from assay.report.page import Publisher
from assay.report.scorecard import scorecard
from assay.store.folder import Store
from assay.study import sources
from assay.study.identity import key_of_question
from assay.study.plan import load_datasets, plan
from assay.study.run import run_study
from assay.study.reading import build_study

folder = Path(sys.argv[1])
study = build_study(json.loads((folder / "study.json").read_text()), "triage.yaml")
store = Store(str(folder / "out"))


class Quiet:
    def __getattr__(self, name):
        return lambda *args, **settings: None


summary = run_study(
    study,
    store,
    LocalExecutor(),
    watcher=Quiet(),
    publish=Publisher(study, store).publish,
    environment={"git_commit": ""},
)
card = scorecard(study, "desk", store.frame())
frame = store.frame()


datasets = load_datasets(study)


def named():
    sources._digest.cache_clear()
    trials = [trial for trial in plan(study, datasets) if trial.fold == 0]
    asked = {e.name: key_of_question(e, trials[0].task) for e in trials[0].evaluations}
    return asked | {trial.recipe_name: trial.training for trial in trials}


before, changed = named(), {}
for file in sorted((folder / "clinic").glob("*.*")):
    text = file.read_text()
    file.write_text(text + "\\nEDITED = True\\n")
    after = named()
    changed[file.name] = sorted(key for key in before if after[key] != before[key])
    file.write_text(text)

from assay.recipes import Recipe, Training
from assay.training.build import build_trainer
from assay.models.mlp import MLP
from clinic.gradient_clipping import GradientClipping

data = datasets["desk"]
x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
network = MLP(hidden=(4,)).build(data.shape, 2, seed=0)
trainer = build_trainer(
    network, Recipe(training=Training(epochs=1)), x, y, bounds=data.bounds, seed=0, hooks=[GradientClipping(1.0)]
)
trainer.run()
print(json.dumps({
    "failures": summary.failures,
    "measured": sorted({
        (name, str(c.get("attack", ""))) for name, c in zip(frame["name"], frame["conditions"]) if "." not in name
    }),
    "columns": [(column.key, column.title) for column in card.evidence],
    "cells": {recipe: card.cells[recipe, "brier"].summary.mean for recipe in card.recipes},
    "changed": changed,
    "norms": len(trainer.figures["gradient_norm"]),
}))
"""


def examples() -> dict[str, str]:
    """The worked examples of CONTRIBUTING.md, by the file in which each stands."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    found = dict(re.findall(r'^```\w+ title="clinic/([^"]+)"\n(.*?)^```', text, flags=re.DOTALL | re.MULTILINE))
    (hook,) = (block for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if "(Hook)" in block)
    return {**found, "gradient_clipping.py": hook, "__init__.py": ""}


def started(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A Python that finds the package, and is told its name."""
    paths = (ROOT / "platform", ROOT, folder)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), PLUGINS: "clinic"}
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, cwd=folder, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ours")
    (made / "clinic").mkdir()
    for name, content in examples().items():
        (made / "clinic" / name).write_text(content)
    (made / "study.json").write_text(json.dumps(STUDY))
    return made


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    """What a study says that uses one of each."""
    done = started(folder, "-c", RUN, str(folder))
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_an_attack_an_objective_a_data_set_and_an_evaluation_need_no_change_of_the_tree(found: dict[str, Any]) -> None:
    assert found["failures"] == {}
    measured = [tuple(pair) for pair in found["measured"]]
    assert {("brier_score", ""), ("robust_accuracy", "sign_flip")} <= set(measured)
    assert set(found["cells"]) == {"standard", "smoothed"}
    assert all(0 < mean < 2 for mean in found["cells"].values())


def test_its_column_stands_where_it_says(found: dict[str, Any]) -> None:
    keys = [key for key, _ in found["columns"]]
    assert keys[keys.index("calibration_error") + 1] == "brier" and ["brier", "Brier score"] in found["columns"]


@pytest.mark.usefixtures("found")
def test_its_section_stands_on_the_page_with_its_figure(folder: Path) -> None:
    page = (folder / "out" / "report.html").read_text()
    assert page.index('<a href="#desk">Scorecard') < page.index('<a href="#desk-brier">Probabilities')
    assert page.index('<a href="#desk-brier">') < page.index('<a href="#desk-robustness">')
    section = page[page.index('<h2 id="desk-brier">Can the probabilities') : page.index('<h2 id="desk-robustness"')]
    assert 'aria-label="brier"' in section and "plotly-graph-div" in section


def test_a_training_hook_of_the_package_is_called_at_every_step(found: dict[str, Any]) -> None:
    assert found["norms"] == 2  # 120 records in batches of 64


def test_edited_code_of_the_package_names_what_it_makes_anew_and_nothing_else(found: dict[str, Any]) -> None:
    everything = ["accuracy", "brier", "robustness", "smoothed", "standard"]
    assert found["changed"] == {
        "sign_flip.py": ["robustness"],
        "brier.py": ["brier"],
        "label_smoothing.py": ["smoothed"],
        "triage.py": ["smoothed", "standard"],
        "__init__.py": [name for name in everything if name != "accuracy"],
        **{name: [] for name in ("best.py", "brier_section.py", "brier.html.j2", "gradient_clipping.py")},
    }


@pytest.mark.usefixtures("found")
def test_a_job_of_the_package_runs_by_its_module(folder: Path) -> None:
    done = started(folder, "-m", "clinic.best", str(folder / "out"))
    assert done.returncode == 0 and re.fullmatch(r"(standard|smoothed): 0\.\d{3}\n", done.stdout), done


def test_a_package_that_cannot_be_imported_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "study.yaml").write_text(json.dumps(STUDY))
    monkeypatch.setenv(PLUGINS, "gone")
    ended = CliRunner().invoke(application(study.main), [str(folder / "study.yaml"), "--dry-run"])
    assert ended.exit_code == 2
    assert "ASSAY_PLUGINS names 'gone', which cannot be imported: No module named 'gone'" in ended.output


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package without methods, which may be known to this process."""
    (tmp_path / "bare" / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/__init__.py", "inner/far.py", "near.py"):
        (tmp_path / "bare" / name).write_text("")
    (tmp_path / "bare" / "inner" / "mine.py").write_text("from ..near import x\nfrom assay import threats\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [one for one in sys.modules if one.partition(".")[0] == "bare"]:
        monkeypatch.delitem(sys.modules, name)
    return "bare"


def test_a_job_is_submitted_with_the_packages_that_it_needs(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused(Exception, "job", "bare.job"):
        check_arguments("bare.job", (), JOBS)
    assert PLUGINS not in runtime_environment(ship_assay=False)["env_vars"]  # type: ignore[operator]
    (Path(sys.path[0]) / "bare" / "inner" / "mine.py").write_text("")
    monkeypatch.setenv(PLUGINS, f" {package} ,")
    with refused(UserError, "job", "bare.job"):
        check_arguments("bare.job", (), JOBS)
    check_arguments("bare.near", (), JOBS)
    sent = runtime_environment(ship_assay=True)
    assert plugin_environment()["env_vars"] == {PLUGINS: "bare"}
    assert sent["env_vars"] == {PLUGINS: "bare", "ASSAY_PROGRESS": "lines"}
    assert [Path(path).name for path in sent["py_modules"]] == ["bare", "assay"]  # type: ignore[attr-defined]


def test_code_of_another_package_counts_with_what_it_imports_of_its_own(package: str) -> None:
    assert closure([f"{package}.inner.mine"]) >= {"bare", "bare.inner", "bare.inner.mine", "bare.near", "assay.threats"}
    assert "bare.inner.far" not in closure([f"{package}.inner.mine"])
    assert digest_of(["assay.threats"]) != digest_of(["assay.threats", "bare.near"])


def test_only_what_is_not_ours_is_told_of_a_data_set() -> None:
    here = type("Preparation", (), {})()
    assert modules_behind(None, np.zeros(2), Path(), Measurement(name="a", value=1.0), here) == (
        "assay.results",
        __name__,
    )


def test_a_figure_that_nobody_declared_is_refused() -> None:
    class Silent(Evaluation):
        name: Literal["silent"] = "silent"
        metrics: ClassVar = ()

        def measure(self, subject: Subject) -> list[Finding]:
            return [Measurement(name="loudness", value=1.0)]

        def sample(self, subject: Subject) -> np.ndarray:
            return np.arange(0)

    class Told:
        model = nn.Identity()
        personalised, why_no_shared_model = False, ""
        split: Any = type("Parts", (), {"test": np.arange(0)})

    with pytest.raises(AssertionError, match=r"Silent\.metrics declares no loudness: add a Metric"):
        answers_to(Silent(), Told())  # type: ignore[arg-type]


def test_every_metric_says_how_to_read_it_and_no_two_columns_are_called_alike() -> None:
    metrics = [metric for _, metric in declared()]
    assert len(metrics) > 70
    for metric in metrics:
        assert metric.title and metric.meaning.endswith("."), metric.name
        assert not {"{", "}"} & {*metric.title, *metric.meaning}, "only a column has conditions to name"
        assert not metric.meaning.startswith("The same share"), "it is read alone, too"
        assert metric.possible[0] < metric.possible[1]
    columns = [column for metric in metrics for column in metric.columns]
    assert len({column.key for column in columns}) == len(columns)
    assert len({(column.group, column.place) for column in columns}) == len(columns)
    assert {column.group for column in columns} == set(GROUPS)
    assert {column.beside for column in columns} - {""} <= {column.key for column in columns}
