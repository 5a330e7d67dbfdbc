"""The peer: a FastAPI application as anyone writes it, with torch, Captum and shap, one process by uvicorn.

    python -m tests.benchmarks.serving.plain_app FOLDER PORT

The folder has ``NAME.pt`` (the network, its names of classes, a baseline and a background) for each model. Answers have
the fields that ours have, so that both send about as many bytes.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import shap
import torch
import uvicorn
from captum.attr import IntegratedGradients
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from torch import Tensor, nn

Values = list[float] | list[list[list[float]]]


class Records(BaseModel):
    """Records of a call."""

    instances: list[Values]


class ToExplain(Records):
    """Records that are to be explained."""

    points: int = 64


class LogOdds(nn.Module):
    """Log-odds of every class."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        logits = self.network(x)
        own = torch.eye(logits.shape[1], dtype=torch.bool)
        others = logits.unsqueeze(1).masked_fill(own, -torch.inf).logsumexp(2)
        return logits - others


def create(folder: Path) -> FastAPI:
    """Creates the application.

    Args:
        folder: with the models.

    Returns:
        The application.
    """
    torch.set_num_threads(1)

    @asynccontextmanager
    async def started(_: FastAPI) -> AsyncIterator[None]:
        print("ready", flush=True)
        yield

    app = FastAPI(lifespan=started)
    models: dict[str, dict[str, Any]] = {
        path.stem: torch.load(path, weights_only=False) for path in folder.glob("*.pt")
    }
    for one in models.values():
        odds = LogOdds(one["network"]).eval()
        one["odds"], one["gradients"] = odds, IntegratedGradients(odds)
        one["expected"] = shap.GradientExplainer(odds, one["background"], batch_size=256)

    def model_of(name: str) -> dict[str, Any]:
        if name not in models:
            raise HTTPException(404, "no such model")
        return models[name]

    @app.post("/{name}/predict")
    def predict(name: str, asked: Records) -> dict[str, Any]:
        one = model_of(name)
        with torch.no_grad():
            probabilities = one["network"](torch.tensor(asked.instances)).softmax(1)
        found = zip(probabilities.argmax(1).tolist(), probabilities.tolist(), strict=True)
        names = one["names"]
        return {
            "predictions": [
                {"class_name": names[k], "class_index": k, "probabilities": dict(zip(names, row, strict=True))}
                for k, row in found
            ]
        }

    @app.post("/{name}/explain")
    def explain(name: str, asked: ToExplain) -> dict[str, Any]:
        one = model_of(name)
        x = torch.tensor(asked.instances)
        with torch.no_grad():
            target = one["network"](x).argmax(1)
        values, delta = one["gradients"].attribute(
            x,
            one["baseline"],
            target=target,
            n_steps=asked.points,
            method="riemann_middle",
            return_convergence_delta=True,
        )
        return _explained(one["names"], target, values, delta)

    @app.post("/{name}/expected")
    def expected(name: str, asked: ToExplain) -> dict[str, Any]:
        one = model_of(name)
        x = torch.tensor(asked.instances)
        with torch.no_grad():
            target = one["network"](x).argmax(1)
        values, _ = one["expected"].shap_values(x, nsamples=asked.points, ranked_outputs=1)
        return _explained(one["names"], target, torch.as_tensor(values)[..., 0], torch.zeros(len(x)))

    return app


def _explained(names: list[str], target: Tensor, values: Tensor, delta: Tensor) -> dict[str, Any]:
    found = zip(target.tolist(), values.tolist(), delta.tolist(), strict=True)
    return {
        "explanations": [{"class_name": names[k], "attributions": own, "error": missed} for k, own, missed in found]
    }


if __name__ == "__main__":
    uvicorn.run(create(Path(sys.argv[1])), port=int(sys.argv[2]), log_level="warning", access_log=False)
