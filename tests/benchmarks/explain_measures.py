"""Measures of explanations: Assay's and those of Quantus 0.6, on 624 images and five maps of each.

Accuracy comes first: the curves of deletion must agree to 1e-5 in all states that Quantus has (it leaves out the whole
record), and the sparseness too. Quantus runs in an environment of its own (``make peers``), with the same weights,
records and maps, one thread each, in alternating rounds.

    python -m jobs.benchmark explain-measures
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.data.planted.images import PlantedImages
from assay.errors import UserError
from assay.explain.measures.base import MeasuredMap, MeasuredRecords
from assay.explain.measures.curves import curve, ranks
from assay.explain.measures.sparseness import Sparseness
from assay.explain.references import Reference
from tests.benchmarks.peers.network_of_measures import network

ROUNDS = 3
RECORDS, MAPS, STEPS = 624, 5, 49
BAR = 5.0
AGREE = 1e-5
VALUE = 0.45
"""What removed pixels become."""
PEER = Path(__file__).parent / "peers" / "explain_measures.py"
PYTHON = Path(__file__).parents[2] / ".venv-peers-explain" / "bin" / "python"


def measure() -> dict[str, Any]:
    """Returns seconds of both and Quantus's time over ours, for equal results."""
    torch.set_num_threads(1)
    records, maps = _given()
    ours: dict[str, list[float]] = {"deletion": [], "sparseness": []}
    theirs: dict[str, list[float]] = {"deletion": [], "sparseness": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(records.model.state_dict(), folder / "weights.pt")
        np.savez(folder / "given.npz", x=records.x.numpy(), maps=torch.stack(maps).numpy(), value=VALUE)
        for _ in range(ROUNDS):
            found = {"deletion": _timed(ours["deletion"], _curves, records, maps)}
            found["sparseness"] = _timed(ours["sparseness"], _sparseness, records, maps)
            for key, seconds in _quantus(folder).items():
                theirs[key] += seconds
        said = dict(np.load(folder / "found.npz"))
    apart = {key: float(np.abs(found[key] - said[key].reshape(found[key].shape)).max()) for key in found}
    if max(apart.values()) > AGREE:
        raise RuntimeError(f"results differ from Quantus's by {apart}: the times say nothing")
    both = {key: (statistics.median(ours[key]), statistics.median(theirs[key])) for key in ours}
    return {
        "unit": "seconds, median of alternating rounds",
        "records": RECORDS,
        "maps": MAPS,
        "assay": {key: round(own, 3) for key, (own, _) in both.items()},
        "quantus": {key: round(other, 3) for key, (_, other) in both.items()},
        "greatest_difference": apart,
        "ratio": {key: round(other / own, 2) for key, (own, other) in both.items()},
        "bar": dict.fromkeys(both, BAR),
    }


def _given() -> tuple[MeasuredRecords, list[Tensor]]:
    torch.manual_seed(0)
    model = network().eval()
    with torch.no_grad():
        # The first logit is 0, so that Quantus's logit of class 1 is the log-odds.
        model[-1].weight[0], model[-1].bias[0] = 0.0, 0.0
    x = torch.from_numpy(PlantedImages(size=RECORDS).load().x)
    generator = torch.Generator().manual_seed(1)
    maps = [torch.randn(x.shape, generator=generator) for _ in range(MAPS)]
    records = MeasuredRecords(
        model=model,
        x=x,
        target=torch.ones(RECORDS, dtype=torch.long),
        reference=Reference(modality="image", background=x[:50], source="50 records"),
        pool=x,
        seed=0,
    )
    return records, maps


def _curves(records: MeasuredRecords, maps: list[Tensor]) -> np.ndarray:
    def fill(rows: Tensor, removed: Tensor) -> Tensor:
        return records.x[rows].masked_fill(removed, VALUE)

    found = [curve(records, ranks(one, records.ties), fill, STEPS, removes_first=True)[1:].T.numpy() for one in maps]
    return np.stack(found)


def _sparseness(records: MeasuredRecords, maps: list[Tensor]) -> np.ndarray:
    return np.stack([Sparseness().score(records, MeasuredMap(values=one)).numpy() for one in maps])


def _timed(seconds: list[float], work: Any, *given: Any) -> np.ndarray:
    began = time.perf_counter()
    found: np.ndarray = work(*given)
    seconds.append(time.perf_counter() - began)
    return found


def _quantus(folder: Path) -> dict[str, list[float]]:
    if not PYTHON.exists():
        raise UserError(f"Quantus is not installed: {PYTHON} is missing; run make peers", setting="peers", given="")
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    alone.pop("PYTHONPATH", None)
    asked = [str(PYTHON), str(PEER), str(folder), "1"]
    ran = subprocess.run(asked, check=True, capture_output=True, text=True, env=alone)
    found: dict[str, list[float]] = json.loads(ran.stdout.strip().splitlines()[-1])
    return found
