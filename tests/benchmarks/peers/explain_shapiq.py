"""Shapley values by shapiq, for the benchmark explain-shapley; run in the environment of peers.

    python explain_shapiq.py sampled FOLDER
    python explain_shapiq.py exact FOLDER NAME ROUNDS

``sampled`` reads games.npz (answers of records to all coalitions, exact values, budgets, seeds) and prints the mean
squared error of each estimator for each budget. ``exact`` reads NAME.npz and NAME.pt and prints seconds of processor
time of a record, in batches of the best size, after writing the values to NAME_found.npy.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from network_of_measures import network_of
from shapiq.approximator import (
    SVARM,
    KernelSHAP,
    KernelSHAPIQ,
    OwenSamplingSV,
    PermutationSamplingSV,
    StratifiedSamplingSV,
    UnbiasedKernelSHAP,
    kADDSHAP,
)
from shapiq.game_theory import ExactComputer

SIZES = (64, 128, 512, 4096)


def estimators(n, seed):
    """The estimators of shapiq that give Shapley values, some in several settings.

    Not SVARM-IQ and ProxySPEX, which estimate interactions: they take seconds for a record.
    """
    same = {"n": n, "random_state": seed}
    equal = np.ones(n + 1)  # each size equally often, which is leverage
    of_pairs = {"max_order": 2, "index": "SII", **same}
    return {
        "kernel": lambda: KernelSHAP(**same),
        "kernel_paired": lambda: KernelSHAP(pairing_trick=True, **same),
        "kernel_paired_leverage": lambda: KernelSHAP(pairing_trick=True, sampling_weights=equal, **same),
        "unbiased_kernel": lambda: UnbiasedKernelSHAP(pairing_trick=True, **same),
        "kadd": lambda: kADDSHAP(max_order=2, **same),
        "kernel_iq": lambda: KernelSHAPIQ(pairing_trick=True, **of_pairs),
        "svarm": lambda: SVARM(**same),
        "permutation": lambda: PermutationSamplingSV(**same),
        "stratified": lambda: StratifiedSamplingSV(**same),
        "owen": lambda: OwenSamplingSV(**same),
    }


def sampled(folder):
    given = np.load(folder / "games.npz")
    answers, exact = given["answers"], given["exact"]
    n = exact.shape[1]
    powers, failed = 2 ** np.arange(n), {}
    found = {}
    for budget in given["budgets"].tolist():
        found[budget] = {}
        for name in estimators(n, 0):
            try:
                errors = [
                    np.sum((of_record(estimators(n, seed)[name](), row, budget, powers) - right) ** 2)
                    for seed in range(int(given["seeds"]))
                    for row, right in zip(answers, exact, strict=True)
                ]
            except Exception as error:  # as few answers as an estimator refuses, or a package that it needs
                failed[f"{name} {budget}"] = f"{type(error).__name__}: {error}"[:120]
                continue
            found[budget][name] = float(np.mean(errors))
    return {"errors": found, "failed": failed}


def of_record(estimator, row, budget, powers):
    game = lambda coalitions: row[np.atleast_2d(coalitions).astype(int) @ powers]
    values = estimator.approximate(budget, game)
    return np.array([values[(player,)] for player in range(len(powers))])


def exact(folder, name, rounds):
    given = {key: torch.from_numpy(value) for key, value in np.load(folder / f"{name}.npz").items()}
    model = network_of(torch.load(folder / f"{name}.pt", weights_only=True))

    def values(size):
        found = []
        for x, baseline, target in zip(given["x"], given["baseline"], given["target"], strict=True):
            computer = ExactComputer(game_of(model, x, baseline, target, given["numbers"], size), int(given["groups"]))
            found.append(computer("SV", 1).get_n_order_values(1))
        return np.stack(found)

    def seconds(size):
        began = time.process_time()
        found = values(size)
        return (time.process_time() - began) / len(found), found

    best = min(SIZES, key=lambda size: seconds(size)[0])
    taken = [seconds(best) for _ in range(rounds)]
    np.save(folder / f"{name}_found.npy", taken[0][1])
    return {"batch": best, "seconds_a_record": [each for each, _ in taken]}


def game_of(model, x, baseline, target, numbers, size):  # noqa: PLR0917
    """The log-odds of one record by which groups are present."""
    sign = 2 * target - 1

    @torch.no_grad()
    def answers(present):
        found = []
        for some in torch.from_numpy(np.asarray(present, np.float32)).split(size):
            shown = some.index_select(1, numbers)
            mixed = torch.addcmul(shown * x.flatten(), 1 - shown, baseline.flatten()).view(-1, *x.shape)
            logits = model(mixed)
            found.append(((logits[:, 1] - logits[:, 0]) * sign).double())
        return torch.cat(found).numpy()

    return answers


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    where = Path(sys.argv[2])
    print(json.dumps(sampled(where) if sys.argv[1] == "sampled" else exact(where, sys.argv[3], int(sys.argv[4]))))
