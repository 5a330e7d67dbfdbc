"""Deletion curves and sparseness by Quantus, for the benchmark explain-measures; run in the environment of peers.

    python explain_measures.py FOLDER ROUNDS

FOLDER holds weights.pt, which torch writes, and given.npz with x, maps and value. It prints seconds of each round as
JSON and writes what Quantus answers to found.npz.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import quantus
import torch
from network_of_measures import network

STEPS = 49


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
    labels = np.ones(len(x), int)
    about = {"model": model, "x_batch": x, "y_batch": labels, "device": "cpu", "channel_first": True, "softmax": False}
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
