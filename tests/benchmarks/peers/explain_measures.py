"""Deletion curves and sparseness by Quantus, for the benchmark explain-measures; run by Python of the environment of peers.

    python explain_measures.py FOLDER ROUNDS

FOLDER holds weights.pt, which torch writes, and given.npz with x, maps and value. It prints seconds of each round as JSON and
writes what Quantus answers to found.npz.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import quantus
import torch
from torch import nn

STEPS = 49


def network() -> nn.Sequential:
    """The network that both explain; its first logit is 0, so that the second is the log-odds."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(784, 2),
    )  # fmt: skip


def main() -> None:
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    model = network().eval()
    model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
    given = np.load(folder / "given.npz")
    x, maps = given["x"], given["maps"]
    quiet = {"disable_warnings": True, "display_progressbar": False}
    flips = quantus.PixelFlipping(
        features_in_step=x[0].size // STEPS,
        perturb_baseline=float(given["value"]),
        abs=False, normalise=False, return_auc_per_sample=False, **quiet,
    )  # fmt: skip
    gini = quantus.Sparseness(abs=True, normalise=False, **quiet)
    seconds: dict[str, list[float]] = {"deletion": [], "sparseness": []}
    found: dict[str, list[np.ndarray]] = {"deletion": [], "sparseness": []}
    about = {"model": model, "x_batch": x, "y_batch": np.ones(len(x), int), "device": "cpu", "channel_first": True, "softmax": False}
    for _ in range(rounds):
        for name, metric in (("deletion", flips), ("sparseness", gini)):
            began = time.perf_counter()
            scores = [metric(**about, a_batch=one.copy(), batch_size=256) for one in maps]
            seconds[name].append(time.perf_counter() - began)
            found[name] = [np.asarray(one, float) for one in scores]
    np.savez(folder / "found.npz", **{name: np.stack(values) for name, values in found.items()})
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
