"""How long a training takes on many GPUs, and what limits it first: a model of one step.

A step computes (an attack of k steps and a training pass), sums gradients over all workers, waits for images that are
not decoded yet, and now and then writes a checkpoint:

    compute    = (k + 1) · overhead + batch · seconds an image · (1 + k · attack share)
    all-reduce = 2 · (gpus − 1) / gpus · gradient bytes / bandwidth, less what the backward pass hides
    decode     = what is left of max(images / (cores · rate), bytes / read bandwidth) after compute and all-reduce
    checkpoint = checkpoint bytes / write bandwidth / steps between checkpoints

The shares follow from counting passes: forward 1, gradient of the inputs 1, gradient of the weights 1. A training pass
has all three; an attack step has no gradient of the weights, so it costs 2/3 of one.

``measure`` fits overhead, seconds an image and attack share to three timings of Assay's own training loop on this
processor, and predicts timings that the fit did not see. No figure of a GPU was measured here.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

ATTACK_SHARE = 2 / 3
BACKWARD_SHARE = 2 / 3
"""Share of a training pass that is backward, during which gradients can be summed."""


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """GPUs and what feeds them."""

    gpus: int
    images_a_second: float
    """Of plain training on one GPU."""
    overhead: float = 0.0
    """Seconds of a pass that do not depend on the batch."""
    all_reduce_bandwidth: float = float("inf")
    """Bytes a second that one GPU sends in an all-reduce; infinite where summing costs nothing."""
    overlap: float = 0.0
    """Share of the all-reduce that may run during the backward pass: 0 for one blocking sum, near 1 with buckets."""
    cores: int | None = None
    """Processor cores that decode, all together; None where images need no decoding."""
    decoded_a_second: float = 400.0
    """Images that one core decodes, crops and scales."""
    read_bandwidth: float = float("inf")
    """Bytes a second that all workers together read from storage."""
    write_bandwidth: float = float("inf")
    """Bytes a second of a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A training."""

    attack_steps: int = 0
    private_factor: float = 1.0
    """Times as long as a plain training pass that one with clipped gradients of single images takes."""
    augmentations: int = 1
    """Copies of each image whose gradients are averaged before clipping, as private training does."""
    attack_share: float = ATTACK_SHARE
    """Time of an attack step, as a share of a plain training pass; 1 where it also computes gradients of weights."""
    batch: int = 64
    """Images of one GPU."""
    images: int = 1_281_167
    """Of one epoch."""
    epochs: float = 90
    gradient_bytes: float = 102e6
    """Of all weights in float32; 25.6 million of ResNet-50."""
    image_bytes: float = 110e3
    """Of one compressed image."""
    checkpoint_bytes: float = 205e6
    """Weights, and the momentum of SGD."""
    checkpoint_every: int = 1_000
    """Steps between checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """Predicted seconds of one step, by what they are spent on."""

    compute: float
    all_reduce: float
    """What the backward pass does not hide."""
    decode: float
    checkpoint: float
    """Of a checkpoint, spread over the steps between two."""

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return self.compute + self.all_reduce + self.decode + self.checkpoint

    @property
    def efficiency(self) -> float:
        """Share of a step that computes: the speed on n GPUs over n times that of one."""
        return self.compute / self.seconds

    @property
    def limits(self) -> list[str]:
        """What costs time beside computing, the worst first."""
        losses = {"decode": self.decode, "all-reduce": self.all_reduce, "checkpoint": self.checkpoint}
        return [name for name in sorted(losses, key=lambda name: -losses[name]) if losses[name] > 0]


def step(hardware: Hardware, workload: Workload) -> Step:
    """Predicts one step.

    Args:
        hardware: GPUs and what feeds them.
        workload: the training.

    Returns:
        Its seconds.
    """
    image = 1 / hardware.images_a_second
    train = image * workload.private_factor * workload.augmentations
    attack = image * workload.attack_steps * workload.attack_share
    compute = (workload.attack_steps + 1) * hardware.overhead + workload.batch * (train + attack)
    summed = 2 * (hardware.gpus - 1) / hardware.gpus * workload.gradient_bytes / hardware.all_reduce_bandwidth
    hidden = min(hardware.overlap * summed, BACKWARD_SHARE * workload.batch * train)
    images = workload.batch * hardware.gpus
    decoded = 0.0 if hardware.cores is None else images / (hardware.cores * hardware.decoded_a_second)
    read = images * workload.image_bytes / hardware.read_bandwidth
    return Step(
        compute=compute,
        all_reduce=summed - hidden,
        decode=max(0.0, max(decoded, read) - compute - (summed - hidden)),
        checkpoint=workload.checkpoint_bytes / hardware.write_bandwidth / workload.checkpoint_every,
    )


def hours(hardware: Hardware, workload: Workload) -> float:
    """Predicts the hours of the whole training.

    Args:
        hardware: GPUs and what feeds them.
        workload: the training.

    Returns:
        The hours; times ``hardware.gpus``, the GPU-hours.
    """
    steps = workload.epochs * workload.images / (workload.batch * hardware.gpus)
    return steps * step(hardware, workload).seconds / 3_600


def needs(hardware: Hardware, workload: Workload) -> dict[str, float]:
    """Returns what a training needs so that nothing but computing takes time.

    Args:
        hardware: GPUs.
        workload: the training.

    Returns:
        Images a second, cores that decode, and GB a second that are read.
    """
    fed = replace(hardware, cores=None, read_bandwidth=float("inf"))
    rate = workload.batch * hardware.gpus / step(fed, workload).seconds
    return {
        "images_needed_a_second": rate,
        "cores": rate / hardware.decoded_a_second,
        "read_gb_a_second": rate * workload.image_bytes / 1e9,
    }


A100S = Hardware(
    gpus=64, images_a_second=2_470, all_reduce_bandwidth=25e9, cores=768, read_bandwidth=2e9, write_bandwidth=1e9
)
"""Not measured here. 2,470 images a second: a published rate of ResNet-50 in mixed precision on one A100. 200 Gb/s and
12 cores a GPU; 2 GB/s from a shared file system."""
PLAN = {
    "plain": Workload(),
    "PGD-3": Workload(attack_steps=3),
    "PGD-7": Workload(attack_steps=7),
    "DP, book-keeping": Workload(private_factor=1.23),
    "DP, Opacus": Workload(private_factor=2.6),
}
"""90 epochs of ResNet-50 on ImageNet. A private step of a ResNet-18 takes 1.23 times as long as a plain one
(``dp-step``, on a processor); 2.6 times is the least that is published of Opacus."""


def planned() -> list[dict[str, Any]]:
    """Returns the plan on 64 A100s, with each remedy in the order in which it is needed.

    Returns:
        One row a recipe and remedy.
    """
    rows = []
    local = replace(A100S, read_bandwidth=64e9)
    remedies = {
        "as it is": A100S,
        "images on local disks": local,
        "and overlapped sums": replace(local, overlap=0.9),
    }
    for name, workload in PLAN.items():
        for remedy, hardware in remedies.items():
            found = step(hardware, workload)
            rows.append(
                {
                    "recipe": name,
                    "remedy": remedy,
                    "step_ms": round(1e3 * found.seconds, 1),
                    "efficiency": round(found.efficiency, 3),
                    "images_a_second": round(workload.batch * hardware.gpus / found.seconds),
                    "hours": round(hours(hardware, workload), 2),
                    "gpu_hours": round(hours(hardware, workload) * hardware.gpus),
                    "limits": found.limits,
                    **{key: round(value, 1) for key, value in needs(hardware, workload).items()},
                }
            )
    return rows


def measure() -> dict[str, Any]:
    """Prints predictions beside timings that the fit did not see, the plan, and what was published."""
    from tests.benchmarks.scaling.calibration import SEEN, UNSEEN, fitted, predicted, timings
    from tests.benchmarks.scaling.published import compared

    began = time.perf_counter()
    measured = timings([*SEEN, *UNSEEN])
    fit = fitted({key: measured[key] for key in SEEN})
    held = []
    for key in UNSEEN:
        guess = predicted(fit, key)
        batch, steps = key
        held.append(
            {
                "batch": batch, "attack_steps": steps, "measured_ms": round(1e3 * measured[key], 1),
                "predicted_ms": round(1e3 * guess, 1), "error": round(guess / measured[key] - 1, 3),
            }
        )  # fmt: skip
    worst = max(abs(row["error"]) for row in held)
    return {
        "unit": "processor milliseconds of one training step of a small ResNet on one thread",
        "seen": {f"batch {b}, {steps} attack steps": round(1e3 * measured[b, steps], 1) for b, steps in SEEN},
        "fit": {key: float(f"{value:.4g}") for key, value in fit.items()},
        "not_seen": held,
        "plan of 64 A100s, not measured here": planned(),
        "published, GPUs not measured here": compared(),
        "seconds": round(time.perf_counter() - began, 1),
        "ratio": {"error of 10 % over the worst": round(0.1 / max(worst, 1e-9), 2)},
        "bar": {"error of 10 % over the worst": 1.0},
    }
