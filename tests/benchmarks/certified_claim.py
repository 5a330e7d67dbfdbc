"""The reproduced study's claim on certified training, judged as it was stated: ResNet-50, CIFAR-10, three times PGD.

Timed steps of ResNet-50 with the small-image stem on records in the shape of CIFAR-10, one thread, processor time:
PGD-7 and interval bounds by Assay; PGD-7 and the convex dual of Wong and Kolter by auto_LiRPA, in the environment that
``make peers`` sets up, since its pins clash with ours. Each is held against PGD-7 in its own environment.
"""

import json
import os
import statistics
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

import assay.models
import assay.objectives  # noqa: F401
from assay.bounds.interval import logits_and_worst
from assay.errors import UserError
from assay.models.resnet import ResNet50
from assay.objectives.pgd import AdversarialPGD
from assay.recipes import Recipe, Training
from assay.threats import Bounds
from assay.training.build import build_trainer

RECORDS = 4
"""Of a step. A batch of the study's size costs as much a record."""
ROUNDS = 3
EPSILON = 8 / 255
CLAIMED = (2.5, 3.5)
"""The range that "about three times" is taken for, as in ``report/claims.yaml``."""
ROOT = Path(__file__).parents[2]
PEERS = Path(os.environ.get("ASSAY_PEERS", ROOT / ".venv-peers")) / "bin" / "python"


def measure() -> dict[str, Any]:
    """Processor seconds of a step, certified ÷ PGD-7 by both ways to certify, and what becomes of the claim.

    Raises:
        UserError: the environment of the peers is missing.
    """
    if not PEERS.exists():
        raise UserError(
            f"there is no {PEERS}: run make peers once, or set ASSAY_PEERS to such an environment",
            setting="ASSAY_PEERS",
            given=str(PEERS),
        )
    torch.set_num_threads(1)
    ours = _interval_bounds()
    peer = _convex_dual()
    ratios = {
        "interval_bounds_over_pgd7": ours["interval_bounds"] / ours["pgd7"],
        "convex_dual_over_pgd7": peer["convex_dual"] / peer["pgd7"],
    }
    return {
        "claim": "certified training takes about 3 times as long as adversarial training (ResNet-50, CIFAR-10)",
        "claimed": list(CLAIMED),
        "unit": f"processor seconds of a step of {RECORDS} records, median of {ROUNDS}",
        "seconds": {
            "assay": {name: round(value, 3) for name, value in ours.items()},
            "auto_LiRPA": {name: round(value, 3) for name, value in peer.items()},
        },
        "verdict": {name: _verdict(ratio) for name, ratio in ratios.items()},
        "ratio": {name: round(ratio, 3) for name, ratio in ratios.items()},
        "bar": {},
    }


def _verdict(ratio: float) -> str:
    return (
        "cheaper than claimed" if ratio < CLAIMED[0] else "dearer than claimed" if ratio > CLAIMED[1] else "as claimed"
    )


def _interval_bounds() -> dict[str, float]:
    """Median processor seconds of a step of Assay's interval bounds and of its PGD-7.

    At this depth the bounds of a fresh network overflow, so its step is timed as it stands, without the training loop,
    which refuses a loss that is not finite. The arithmetic costs the same.
    """
    draw = np.random.default_rng(0)
    x = torch.from_numpy(draw.random((RECORDS, 3, 32, 32), np.float32))
    y = torch.from_numpy(draw.integers(10, size=RECORDS))
    bounds = Bounds(low=torch.zeros(3, 32, 32), high=torch.ones(3, 32, 32))
    build = partial(ResNet50(stem="small", norm="batch").build, (3, 32, 32), 10, seed=0)
    training = Training(batch_size=RECORDS, learning_rate=1e-5)
    recipe = Recipe(objective=AdversarialPGD(epsilon=EPSILON, steps=7), training=training)
    trainer = build_trainer(build(), recipe, x, y, bounds=bounds, seed=0)
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    low, high = bounds.box(x, EPSILON)

    def certify() -> None:
        optimizer.zero_grad()
        _, worst = logits_and_worst(model, x, low, high, y)
        F.cross_entropy(worst, y).backward()
        optimizer.step()

    seconds: dict[str, list[float]] = {"pgd7": [], "interval_bounds": []}
    for _ in range(ROUNDS):
        for name, step in (("pgd7", partial(trainer.run, 1)), ("interval_bounds", certify)):
            started = time.process_time()
            step()
            seconds[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _convex_dual() -> dict[str, float]:
    """The same of PGD-7 and the convex dual in the environment of the peers."""
    script = Path(__file__).parent / "peers" / "convex_dual.py"
    said = subprocess.run(
        [str(PEERS), str(script), str(RECORDS), str(ROUNDS)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
    )
    if said.returncode:
        raise UserError(f"the environment of the peers failed: {said.stderr.strip().splitlines()[-1]}; run make peers")
    seconds = json.loads(said.stdout.strip().splitlines()[-1])
    return {name: statistics.median(values) for name, values in seconds.items()}
