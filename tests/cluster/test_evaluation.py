"""One model's evaluation, spread over Ray workers by records: killed workers cost their own piece, and nothing else."""

import os
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.attacks.base import Attack
from assay.cluster.executor import RayExecutor
from assay.data.base import Dataset
from assay.data.splits import Split
from assay.evaluations import attack_runs
from assay.evaluations.attack_runs import AttackRun, AttackTarget
from assay.evaluations.subject import Subject
from assay.executors import Executor, LocalExecutor
from assay.seeds import Draw
from assay.threats import Threat


class Fatal(Attack):
    """Leaves a file for every piece that it begins; the first to begin one of 7 records ends its process."""

    name: Literal["fatal"] = "fatal"
    folder: str

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:
        begun = Path(self.folder, f"{len(x)}-{len(list(Path(self.folder).iterdir()))}")
        first = not list(Path(self.folder).glob(f"{len(x)}-*"))
        begun.touch()
        if len(x) == 7 and first:
            os._exit(1)
        return x + threat.epsilon * draw.normal(x).sign()


def fooled(executor: Executor, wdbc: Dataset, model: nn.Module, folder: Path) -> Tensor:
    folder.mkdir()
    rows = np.arange(attack_runs.SHARD + 7)
    parts = Split(train=rows[:0], validation=rows[:0], calibration=rows[:0], test=rows)
    subject = Subject(model=model, dataset=wdbc, split=parts, recipe=None, log=None, seed=0, executor=executor)
    field = AttackTarget.of(subject, norm="linf", epsilons=(1.0,), records=None)
    run = AttackRun(attack=Fatal(folder=str(folder)), norm="linf", radii=(1.0,))
    return field.curves({"fatal": run})["fatal"][1.0].fooled


def test_a_killed_workers_piece_is_done_again_and_no_other(
    pool: RayExecutor, wdbc: Dataset, trained: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread = fooled(pool, wdbc, trained, tmp_path / "spread")
    begun = sorted(path.name.split("-")[0] for path in (tmp_path / "spread").iterdir())
    assert begun == sorted([str(attack_runs.SHARD), "7", "7"])
    # Here the piece of 7 must not end the process: a file says that one has begun before.
    monkeypatch.setattr(os, "_exit", lambda code: None)
    assert torch.equal(spread, fooled(LocalExecutor(), wdbc, trained, tmp_path / "local"))
    assert 0 < int(spread.sum()) < len(spread)
