"""One recipe over two Ray Train workers, one of them killed on the way."""

import os
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from processes import ROOT, Ended, Job, command_line, wait_for

from assay.cluster.session import set_defaults
from assay.executors import LocalExecutor
from assay.store.folder import Store
from assay.study.plan import load_datasets, plan
from assay.study.reading import read_study
from assay.study.spec import with_one_recipe
from assay.study.training import train_trial
from assay.training.checkpoints import from_bytes

WDBC = "cohorts.wdbc"
PRIVATE = f"{WDBC}.recipes.pgd_dp_eps_8"
FAST = f"{WDBC}.recipes.fast"
EPOCHS = 15
RECIPES: dict[str, tuple[str, ...]] = {
    "pgd_dp_eps_8": (f"{PRIVATE}.training.epochs={EPOCHS}", f"{WDBC}.evaluations=[accuracy, privacy, cost]"),
    # Steps so small that the examples are harmless: the watch goes back again and again. Nothing ends it early.
    "fast": (
        f"{FAST}.training={{epochs: {EPOCHS}, learning_rate: 0.003, early_stopping: {{epsilon: 0.3, patience: 99}}}}",
        f"{FAST}.objective={{name: fast, epsilon: 1.0, relative_step: 0.01, watch: {{least_share: 0.99}}}}",
        f"{WDBC}.evaluations=[accuracy, cost]",
    ),
}
"""What is changed in each recipe of the quickstart: shorter, and with all that a defence must remember."""


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_goes_on_from_a_checkpoint_after_a_worker_is_killed(
    recipe: str, start: Callable[..., Job], tmp_path: Path
) -> None:
    set_defaults()
    log = tmp_path / "ray_train"
    changes = [part for change in RECIPES[recipe] for part in ("--set", change)]
    job = start(
        "jobs.train", "quickstart", "--recipe", recipe, "--workers", "2", "--results", str(tmp_path),
        "--checkpoint-every", "3", *changes,
    )  # fmt: skip
    # Ray Train registers a report when it next polls its workers, so the third on disk shows that the first counts.
    wait_for(lambda: len(list(log.glob("*/checkpoint_*"))) >= 3, seconds=240, what="the third checkpoint")
    victims = [pid for pid in job.family() if "RayTrainWorker" in command_line(pid)]
    assert len(victims) == 2
    os.kill(victims[1], signal.SIGKILL)
    code, said = job.finish()
    assert code == 0, said

    epochs = [int(line.split()[1]) for line in said.splitlines() if line.startswith("epoch ")]
    assert epochs[-1] == EPOCHS
    restarts = [after for before, after in pairwise(epochs) if after <= before]
    assert len(restarts) == 1, f"one restart was forced: {epochs}"
    assert restarts[0] > 3, f"training went on from the beginning: {epochs}"

    asked = read_study("quickstart", RECIPES[recipe], folder=ROOT / "jobs" / "studies")
    study = with_one_recipe(asked, cohort=None, recipe=recipe, fold=1)
    datasets = load_datasets(study)
    trial = plan(study, datasets)[0]
    stored = Store(str(tmp_path)).checkpoint(trial.training)
    assert stored is not None
    found, about = from_bytes(stored, "found")
    expected, central = from_bytes(train_trial(trial, LocalExecutor(), datasets["wdbc"]).checkpoint, "expected")
    assert about["mechanisms"] == central["mechanisms"], "the account of a resumed run equals the undisturbed one"
    assert about["notes"] == central["notes"], "the watch went back as often"
    assert about["validation"] == central["validation"], "early stopping saw the same"
    assert bool(central["notes"]) == bool(central["validation"]) == (recipe == "fast")
    for name, weights in expected.items():
        torch.testing.assert_close(found[name], weights, atol=2e-4, rtol=0)


def test_a_federated_recipe_is_refused_with_the_way_out(job: Callable[..., Ended], tmp_path: Path) -> None:
    ended = job("train", "quickstart", "--recipe", "federated_iid", "--results", str(tmp_path))
    assert ended.code == 2
    assert "run it with jobs.study" in ended.said


def test_an_official_split_has_no_second_fold(job: Callable[..., Ended], tmp_path: Path) -> None:
    x, split = np.random.default_rng(0).uniform(size=(40, 3)), np.repeat(["train", "test"], 20)
    np.savez(tmp_path / "split.npz", x=x, y=np.arange(40) % 2, split=split)
    cohort = {
        "dataset": {"name": "arrays", "path": str(tmp_path / "split.npz"), "low": 0, "high": 1},
        "model": {"name": "mlp", "hidden": [4]},
        "recipes": {"standard": {}},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"name": "split", "cohorts": {"made": cohort}}))
    ended = job("train", str(tmp_path / "study.yaml"), "--recipe", "standard", "--fold", "2", "--workers", "1")
    assert ended.code == 2
    assert "--fold 2: split keeps its official split, which is one fold" in ended.words
