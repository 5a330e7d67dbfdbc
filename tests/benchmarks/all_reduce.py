"""Two gloo processes that train a ResNet-18: gradients summed during the backward pass against sums after it.

Both processes train the same network twice, once in each way, a few steps in turn. After the first steps the two must
have the very same weights, or the timing is void (sums of two numbers do not depend on their order). A time is that of
the first process, in wall seconds of a step; a ratio is the median over rounds, in which both ways ran one after the
other. ``sum_alone`` is what an explicit sum of all gradients takes with nothing to overlap: no gain can be larger.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import torch

from assay.models.resnet import ResNet18
from assay.recipes import Recipe, Training
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.collective import Distributed
from assay.training.loop import Trainer
from assay.training.overlap import BUCKET_BYTES

ROUNDS, STEPS = 9, 3
RECORDS = 8
"""Of each worker in a step."""
BAR = 0.9
"""Summing during the backward pass may not cost more than a tenth; what it gains depends on the network's hardware."""


def measure() -> dict[str, Any]:
    """Seconds of a step in both ways, their ratio and the bar."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.benchmarks.all_reduce"]
        environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        workers = [
            subprocess.Popen([*command, str(rank), folder], env=environment, stdout=subprocess.PIPE, text=True)
            for rank in range(2)
        ]
        said = [worker.communicate()[0] for worker in workers]
    if any(worker.returncode for worker in workers):
        raise RuntimeError("a worker of the benchmark failed; its error stands above")
    return {"unit": "wall seconds of a step (median)", **json.loads(said[0]), "bar": {"after_over_during": BAR}}


def _work(rank: int, folder: str) -> dict[str, Any]:
    """Trains in turn in both ways; returns the times of this worker."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    trainers = {way: _trainer() for way in ("after", "during")}
    trainers["after"]._overlapped = None
    for trainer in trainers.values():
        trainer.run(steps=2)
    pairs = zip(*(trainer.parameters for trainer in trainers.values()), strict=True)
    agree = all(torch.equal(one, other) for one, other in pairs)
    seconds: dict[str, list[float]] = {way: [] for way in trainers}
    for _ in range(ROUNDS if agree else 0):
        for way, trainer in trainers.items():
            torch.distributed.barrier()
            began = time.perf_counter()
            trainer.run(steps=STEPS)
            seconds[way].append((time.perf_counter() - began) / STEPS)
    alone = _sum_alone(trainers["after"])
    torch.distributed.destroy_process_group()
    if not agree:
        return {"ratio": {"after_over_during": 0.0}, "agree": False}
    ratios = [after / during for after, during in zip(seconds["after"], seconds["during"], strict=True)]
    return {
        "agree": True,
        "gradients_mib": round(sum(p.numel() * p.element_size() for p in trainers["after"].parameters) / 2**20, 1),
        "message_mib": BUCKET_BYTES / 2**20,
        "records_of_a_worker": RECORDS,
        "seconds": {way: round(statistics.median(each), 4) for way, each in seconds.items()},
        "sum_alone": round(alone, 4),
        "ratio": {"after_over_during": round(statistics.median(ratios), 3)},
        "ratios": sorted(round(ratio, 3) for ratio in ratios),
    }


def _trainer() -> Trainer:
    """Returns a trainer of a ResNet-18 on images that are noise."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, 3, 32, 32, generator=generator)
    return build_trainer(
        ResNet18(norm="group", stem="small").build((3, 32, 32), 10, seed=0),
        Recipe(training=Training(epochs=1000, batch_size=2 * RECORDS, optimizer="sgd", learning_rate=0.01)),
        x,
        torch.arange(64) % 10,
        bounds=Bounds(low=torch.tensor(0.0), high=torch.tensor(1.0)),
        seed=0,
        collective=Distributed(torch.device("cpu")),
    )


def _sum_alone(trainer: Trainer) -> float:
    """Returns the seconds of an explicit sum of tensors as large as all gradients (median of 9)."""
    gradients = [torch.zeros_like(parameter) for parameter in trainer.parameters]
    collective, seconds = Distributed(torch.device("cpu")), []
    for _ in range(9):
        torch.distributed.barrier()
        began = time.perf_counter()
        collective.sum(gradients)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


if __name__ == "__main__":
    found = _work(int(sys.argv[1]), sys.argv[2])
    if sys.argv[1] == "0":
        print(json.dumps(found))
