"""A finished trial is opened from what was stored, whatever has become of the files that its training began with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from assay.errors import CheckpointError
from assay.executors import LocalExecutor
from assay.models.resnet import ResNet18
from assay.store.folder import Store
from assay.study.finished import open_finished
from assay.study.run import run_study
from assay.study.spec import Study
from assay.training.checkpoints import from_bytes
from tests.mistakes import refused

Tiny = Callable[..., Study]
NETWORKS = "from torch import nn\n\ndef net():\n    return nn.Linear(4, 2)\n"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "results"))


@pytest.fixture
def finish(tiny: Tiny, store: Store, watcher: Callable[[], Any]) -> Callable[..., str]:
    """Runs the two folds of one recipe; the id of the first."""

    def run(**cohort: Any) -> str:
        study = tiny({"standard": {"training": {"epochs": 1}}}, {"evaluations": ["cost"], **cohort})
        summary = run_study(study, store, LocalExecutor(), watcher=watcher(), publish=lambda datasets: None)
        assert not summary.failures
        return open_finished(store, recipe="standard").trial

    return run


def test_a_tuned_network_is_opened_without_the_weights_that_it_was_tuned_from(
    finish: Callable[..., str], store: Store, tmp_path: Path
) -> None:
    y = np.arange(40) % 2
    images = np.random.default_rng(0).uniform(size=(40, 1, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "images.npz", x=images, y=y)
    weights = tmp_path / "resnet18.safetensors"
    save_file(ResNet18(stem="small", norm="group").build((1, 4, 4), 2, seed=5).state_dict(), weights)
    trial = finish(
        dataset={"name": "arrays", "path": str(tmp_path / "images.npz"), "low": 0, "high": 1, "modality": "image"},
        model={"name": "resnet18", "stem": "small", "norm": "group", "weights": str(weights)},
    )
    for change in (lambda: weights.write_bytes(b"another file"), weights.unlink):
        change()
        opened = open_finished(store, recipe="standard")
        assert opened.trial == trial
        tensors, _ = from_bytes(store.checkpoint(store.trainings()[trial]) or b"", "stored")
        assert tensors
        assert all(torch.equal(opened.model.state_dict()[name], tensor) for name, tensor in tensors.items())


def test_a_network_whose_code_has_changed_is_refused(
    finish: Callable[..., str], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "finished_networks.py"
    code.write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    finish(model={"name": "imported", "factory": "finished_networks:net"})
    code.write_text(NETWORKS + "\n# edited\n")
    with refused(CheckpointError, "model", "imported"):
        open_finished(store, recipe="standard")
