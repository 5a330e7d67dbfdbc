"""Published trainings on ImageNet, and what the step-time model says of them.

Rates of single GPUs are other people's figures of plain ResNet training, from memory unless a source stands beside
them; none was measured here. The ratio shows what passes alone explain, and what they do not.
"""

from dataclasses import dataclass
from typing import Any

from tests.benchmarks.scale_model import Hardware, Workload, hours


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published training."""

    name: str
    hours: float
    """As published."""
    gpus: str
    hardware: Hardware
    workload: Workload
    why: str
    """Why the two differ, as far as can be told."""


_SMALLER = (6 * (128 / 224) ** 2 + 6 + 3 * (288 / 224) ** 2) / 15
"""Mean cost of an image of Fast's 15 epochs at 128, 224 and 288 pixels, over that at 224."""
TABLE = (
    Published(
        name="Free (Shafahi et al. 2019), 92 passes with weight and input gradients together",
        hours=50,
        gpus="4 P100, float32, 220 images/s each",
        hardware=Hardware(gpus=4, images_a_second=220),
        workload=Workload(epochs=92),
        why="one process for all GPUs (DataParallel) gathers outputs and gradients on one of them; old data loading",
    ),
    Published(
        name="Fast (Wong et al. 2020), FGSM, 15 epochs of 128 to 288 pixels",
        hours=12,
        gpus="4 2080 Ti, mixed precision, 430 images/s each",
        hardware=Hardware(gpus=4, images_a_second=430 / _SMALLER),
        workload=Workload(epochs=15, attack_steps=1, attack_share=1.0),
        why="at 128 pixels the GPUs ask for 5,000 decoded images/s of one machine; the rate is of 224 pixels",
    ),
    Published(
        name="PGD-30, ResNet-152 (Xie et al. 2019), 110 epochs",
        hours=52,
        gpus="128 V100, float32, 150 images/s each",
        hardware=Hardware(gpus=128, images_a_second=150, all_reduce_bandwidth=12.5e9),
        workload=Workload(epochs=110, attack_steps=30, batch=32, gradient_bytes=241e6),
        why="denoising blocks (non-local means) are not counted here; evaluation and data loading neither",
    ),
    Published(
        name="PGD-30, ResNet-101 (Xie et al. 2019), 110 epochs",
        hours=38,
        gpus="128 V100, float32, 215 images/s each",
        hardware=Hardware(gpus=128, images_a_second=215, all_reduce_bandwidth=12.5e9),
        workload=Workload(epochs=110, attack_steps=30, batch=32, gradient_bytes=178e6),
        why="as above",
    ),
    Published(
        name="TAN (Sander et al. 2023), DP, 72,000 steps of 16,384 images, 4 augmentations each",
        hours=96,
        gpus="32 A100, 1,000 images/s each without tensor cores",
        hardware=Hardware(gpus=32, images_a_second=1_000, all_reduce_bandwidth=25e9),
        workload=Workload(epochs=72_000 * 16_384 / 1_281_167, batch=512, private_factor=2.6, augmentations=4),
        why="the factor 2.6 is the least of Opacus (Rodriguez Beltran et al. 2026); steps and augmentations are from "
        "memory (the example of its repository, 18,000 steps of 32,768 with 8, has as many passes)",
    ),
    Published(
        name="plain, MXNet (NVIDIA), 90 epochs on 8 A100; rate from its own run on one (8.75 h)",
        hours=1.14,
        gpus="8 A100, mixed precision, 3,660 images/s each",
        hardware=Hardware(gpus=8, images_a_second=3_660, all_reduce_bandwidth=150e9, overlap=0.9),
        workload=Workload(batch=192),
        why="a check of scaling alone: the rate of one GPU is from the same source",
    ),
)


def compared() -> list[dict[str, Any]]:
    """Returns published hours beside the model's, and DAT, whose table could not be read here.

    Returns:
        One row a training.
    """
    rows: list[dict[str, Any]] = []
    for one in TABLE:
        guess = hours(one.hardware, one.workload)
        rows.append(
            {
                "training": one.name, "gpus": one.gpus, "published_hours": one.hours, "model_hours": round(guess, 1),
                "ratio": round(guess / one.hours, 2), "why": one.why,
            }
        )  # fmt: skip
    return [
        *rows,
        {
            "training": "DAT (Zhang et al. 2022), ResNet-50, 30 epochs",
            "published_hours": None,
            "model_hours": None,
            "why": "its seconds an epoch stand in a table that could not be read here: not compared",
        },
    ]
