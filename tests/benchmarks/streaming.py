"""Does the memory of training workers depend on how many images they learn from? ResNet-50, two Ray Train workers.

One epoch over an ImageNet folder of 500 images, and one over 2,000. Decoded, the smaller is several times the object
store, and the difference between the two is more than half of what a worker holds besides: a worker that kept its
records, or its share of them, could not hide it. Memory is anonymous memory, which leaves the object store's out; it
is read from /proc, so this runs on Linux.
"""

import os
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest import mock

import ray
from torch import nn

from assay.cluster.session import start_ray_here
from assay.cluster.train import train_distributed
from assay.data.base import Dataset
from assay.data.images.synthetic import make_image_folder
from assay.data.splits import Splitting
from assay.models.imported import Imported
from assay.models.resnet import ResNet50
from assay.recipes import Recipe, Training
from assay.registry import build
from assay.study.trial import Trial

IMAGES = (500, 2000)
STORE = 80_000_000
"""Bytes of the object store: little more than the least that Ray takes."""
POOLED = 4
"""Pixels a side that the network averages first: images of 224 pixels stream, and two processors can still train."""
ROLES = {"RayTrainWorker": "workers", "MapBatches": "decoding_tasks"}
"""What Ray writes into a process's command line."""


def measure() -> dict[str, Any]:
    """Peak memory for both folders, in MiB, and the smaller divided by the greater."""
    with tempfile.TemporaryDirectory() as folder:
        found = {images: _train(images, Path(folder)) for images in IMAGES}
    peaks = [run["workers"] for run in found.values()]
    return {
        "unit": "MiB of anonymous memory, the greatest of any process, sampled every 20 ms",
        "object_store": _mebibytes(STORE),
        "images": found,
        "ratio": {"peak_of_workers": round(min(peaks) / max(peaks), 3)},
        "bar": {"peak_of_workers": 0.91},
    }


def pooled_resnet50(classes: int) -> nn.Module:
    """ResNet-50 behind an average over squares of pixels."""
    side = 224 // POOLED
    return nn.Sequential(nn.AvgPool2d(POOLED), ResNet50(norm="group").network((3, side, side), classes))


def _train(images: int, folder: Path) -> dict[str, float]:
    dataset = _dataset(images, folder / str(images))
    trial = Trial(
        cohort="imagenet", recipe_name="standard", fold=0, repeat=0, seed=0, threads=1, official=True,
        splitting=Splitting(validation=0.01),
        model=Imported(factory="tests.benchmarks.streaming:pooled_resnet50", arguments={"classes": dataset.classes}),
        recipe=Recipe(training=Training(epochs=1, batch_size=32, optimizer="sgd", learning_rate=0.01)),
        evaluations=(), data_digest=dataset.digest, dataset_name=dataset.name,
    )  # fmt: skip
    start_ray_here(num_cpus=2, object_store_memory=STORE)
    try:
        with _Peaks() as peaks:
            began = time.perf_counter()
            train_distributed(
                trial, dataset, workers=2, storage=str(folder / "ray_train"), watch=lambda *_: None
            )  # fmt: skip
            seconds = time.perf_counter() - began
    finally:
        ray.shutdown()
    decoded = images * dataset.x[:1].nbytes
    return {**peaks.found(), "decoded_records": _mebibytes(decoded), "seconds": round(seconds, 1)}


def _dataset(images: int, folder: Path) -> Dataset:
    """Small files, scaled up when they are decoded: drawing large ones would take longer than all the rest."""
    make_image_folder(
        folder / "imagenet", classes=4, per_class={"train": images // 4, "val": 2}, size=64, seed=0
    )  # fmt: skip
    with mock.patch.dict(os.environ, {"ASSAY_DATA": str(folder)}):
        return build("dataset", "imagenet").load()


class _Peaks:
    """Watches all processes below this one, in a thread, while its block runs."""

    def __init__(self) -> None:
        self._peaks: dict[int, int] = defaultdict(int)
        self._roles: dict[int, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Peaks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def found(self) -> dict[str, float]:
        """The greatest peak of each role, in MiB."""
        return {
            role: _mebibytes(max(self._peaks[pid] for pid, own in self._roles.items() if own == role))
            for role in ROLES.values()
        }

    def _watch(self) -> None:
        sampled = 0
        while not self._over.wait(0.02):
            if sampled % 50 == 0:
                self._recognise()
            sampled += 1
            for pid in self._roles:
                self._peaks[pid] = max(self._peaks[pid], _anonymous(pid))

    def _recognise(self) -> None:
        for pid in _below(os.getpid()) - set(self._roles):
            line = _read(f"/proc/{pid}/cmdline")
            for name, role in ROLES.items():
                if name in line:
                    self._roles[pid] = role


def _below(root: int) -> set[int]:
    """All processes that a process has started, and that those have started."""
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (said := _read(f"/proc/{entry.name}/stat")):
            children[int(said.rpartition(")")[2].split()[1])].append(int(entry.name))
    found: set[int] = set()
    waiting = [root]
    while waiting:
        own = children[waiting.pop()]
        found.update(own)
        waiting += own
    return found


def _anonymous(pid: int) -> int:
    """Bytes of resident memory that are the process's own; 0 if it is gone."""
    lines = [line for line in _read(f"/proc/{pid}/status").splitlines() if line.startswith("RssAnon:")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _mebibytes(count: int) -> float:
    return round(count / 2**20, 1)
