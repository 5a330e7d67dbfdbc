"""Training of a bundle's network on all records at one place, as many epochs as the federation has rounds.

``--workers`` is the number of threads.
"""

import time

import torch

import assay.objectives  # noqa: F401
from assay.recipes import Recipe
from assay.threats import Bounds
from assay.training.build import build_trainer
from tests.benchmarks.federated.bundle import Bundle, arguments, finish


def main() -> None:
    asked = arguments()
    torch.set_num_threads(asked.workers)
    began = time.perf_counter()
    bundle = Bundle(asked.bundle, asked.dtype)
    everything = torch.full(tuple(bundle.x.shape[1:]), torch.inf, dtype=bundle.dtype)
    recipe = Recipe.model_validate(
        {
            "objective": "standard",
            "training": {
                "epochs": bundle.rounds + 1,
                "batch_size": bundle.batch_size,
                "optimizer": "sgd",
                "momentum": 0.0,
                "learning_rate": bundle.learning_rate,
            },
        }
    )
    bounds = Bounds(low=-everything, high=everything)
    trainer = build_trainer(bundle.network(), recipe, bundle.x, bundle.y, bounds=bounds, seed=bundle.seed, classes=2)
    trainer.run(1)
    started = time.perf_counter()
    trainer.run(bundle.rounds)
    finish(asked, trainer.model.state_dict(), seconds=time.perf_counter() - started, setup=started - began, crossed=0)


if __name__ == "__main__":
    main()
