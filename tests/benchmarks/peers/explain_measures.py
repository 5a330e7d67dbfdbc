"""Measures of maps by Quantus, for the benchmark explain-measures; run in the environment of peers.

    python explain_measures.py FOLDER ROUNDS

FOLDER holds weights.pt and cascade.pt, which torch writes, and given.npz. It prints seconds of processor time of each
round as JSON and writes what Quantus answers to found.npz.

Where a definition of Quantus 0.6 is wrong, its own hook gets a corrected function, and its work stays as it is:

- deletion, insertion: ``perturb_func`` sets pixels to a value, or back to those of the record. Quantus has no
  insertion: it is its PixelFlipping of records without features.
- infidelity: its blocks accumulate and repeat; ``perturb_func`` removes the stated subsets from the whole record.
- sensitivity: its radius is absolute; ``perturb_func`` adds the stated noise. Copies with another decision are left out
  one by one: ``max_func`` is ``nanmax`` with them too.
- cascade: weights are those stated, and the mean leaves out the trained network, which MPRT averages in.
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
BATCH = 256
QUIET = {"disable_warnings": True, "display_progressbar": False}


def gradient(model, inputs):
    """Gradient of the log-odds of class 1 of two."""
    x = torch.as_tensor(np.asarray(inputs), dtype=torch.float32).requires_grad_()
    logits = model(x)
    (found,) = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), x)
    return found.numpy()


class Work:
    """The work of each row, as (maps, ...) scores."""

    def __init__(self, folder):
        self.model = network().eval()
        self.model.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
        self.cascade = []
        for weights in torch.load(folder / "cascade.pt", weights_only=True):
            self.cascade.append(network().eval())
            self.cascade[-1].load_state_dict(weights)
        given = np.load(folder / "given.npz")
        self.x, self.maps, self.value = given["x"], given["maps"], float(given["value"])
        self.removed, self.near, self.gradient = given["removed"], given["near"], given["gradient"]

    def asked(self, metric, a, x=None, rows=slice(None), **call):
        x = (self.x if x is None else x)[rows]
        about = {"device": "cpu", "channel_first": True, "softmax": False, "batch_size": BATCH, **call}
        return metric(model=self.model, x_batch=x, y_batch=np.ones(len(x), int), a_batch=a[rows].copy(), **about)

    def batches(self):
        return [slice(first, first + BATCH) for first in range(0, len(self.x), BATCH)]

    def flips(self, **settings):
        whole = {"abs": False, "normalise": False, "return_auc_per_sample": False}
        return quantus.PixelFlipping(features_in_step=self.x[0].size // STEPS, **whole, **settings, **QUIET)

    def deletion(self):
        return [self.asked(self.flips(perturb_baseline=self.value), one) for one in self.maps]

    def insertion(self):
        empty, found = np.full_like(self.x, self.value), []
        for one in self.maps:
            for rows in self.batches():
                flat = self.x[rows].reshape(len(self.x[rows]), -1)

                def restored(arr, indices, flat=flat, **_):
                    out, all_rows = arr.copy(), np.arange(len(arr))[:, None]
                    out[all_rows, indices] = flat[all_rows, indices]
                    return out

                found += self.asked(self.flips(perturb_func=restored), one, empty, rows)
        return np.asarray(found).reshape(len(self.maps), len(self.x), -1)

    def infidelity(self):
        found, blocks = [], (28 // 7) ** 2
        for one in self.maps:
            for rows in self.batches():
                flat, subsets = self.x[rows].reshape(len(self.x[rows]), -1), iter(self.removed[:, rows])

                def without(arr, indices, flat=flat, subsets=subsets, **_):
                    return np.where(next(subsets), np.float32(self.value), flat)

                sizes = [7] * (len(self.removed) // blocks)
                metric = quantus.Infidelity(
                    perturb_patch_sizes=sizes, n_perturb_samples=1, perturb_func=without, **QUIET
                )  # fmt: skip
                found += list(self.asked(metric, one, rows=rows))
        return np.asarray(found).reshape(len(self.maps), len(self.x))

    def sensitivity(self):
        found = []
        for rows in self.batches():
            copies = iter(self.near[:, rows].reshape(len(self.near), len(self.x[rows]), -1))
            metric = quantus.MaxSensitivity(
                nr_samples=len(self.near), perturb_func=lambda arr, indices, copies=copies, **_: next(copies),
                return_nan_when_prediction_changes=True, **QUIET,
            )  # fmt: skip
            metric.max_func = np.nanmax
            explain = lambda model, inputs, targets, **_: gradient(model, inputs)
            found += list(self.asked(metric, self.gradient, rows=rows, explain_func=explain))
        return np.asarray(found)

    def randomisation(self):
        networks = iter([self.model, *self.cascade])
        metric = quantus.MPRT(
            similarity_func=quantus.similarity_func.correlation_spearman, layer_order="top_down",
            abs=True, normalise=False, **QUIET,
        )  # fmt: skip
        explain = lambda model, inputs, targets, **_: gradient(next(networks), inputs)
        scores = self.asked(metric, self.gradient, explain_func=explain, batch_size=len(self.x))
        return np.mean([values for name, values in scores.items() if name != "original"], axis=0)

    def sparseness(self):
        gini = quantus.Sparseness(abs=True, normalise=False, **QUIET)
        return [self.asked(gini, one) for one in self.maps]


ROWS = ("deletion", "insertion", "infidelity", "sensitivity", "randomisation", "sparseness")


def main() -> None:
    folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    work = Work(folder)
    seconds = {name: [] for name in ROWS}
    for _ in range(rounds):
        for name in ROWS:
            began = time.process_time()
            found = getattr(work, name)()
            seconds[name].append(time.process_time() - began)
            np.save(folder / f"{name}.npy", np.asarray(found, float))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
