"""Measures of explanations: Assay's and those of Quantus 0.6, on 624 images and five maps of each.

Results come first: each row must be equal to Quantus's to 1e-5, or no time is printed. Where a definition of Quantus is
wrong, its hooks get a corrected function, which ``peers/explain_measures.py`` lists. Quantus runs in an environment of
its own (``make peers``), with the same weights, records, maps, subsets and noise, in alternating rounds of one thread
each. Seconds are processor time.

- ``deletion``, ``insertion``: the curves in all states that Quantus has (it leaves out the first one).
- ``infidelity``: the mean squared error over 80 subsets, as Quantus has it; ours then also finds the best scale.
- ``sensitivity``: the greatest change of a gradient over eight records nearby.
- ``randomisation``: rank correlation of gradients with those of three networks with more and more random layers.
- ``sparseness``: the Gini index.

``floor`` is the time of the network alone: bare passes of the same rows through its quickest copy, in the best batch.

    python -m jobs.benchmark explain-measures
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from assay import seeds
from assay.cluster.memory import keep_freed_memory
from assay.data.planted.images import PlantedImages
from assay.errors import UserError
from assay.explain.measures.base import MeasuredMap, MeasuredRecords, Modalities
from assay.explain.measures.curves import curve, ranks
from assay.explain.measures.randomisation import Cascade, cascade
from assay.explain.measures.replacements.base import Fill, Replacement
from assay.explain.measures.sparseness import Sparseness
from assay.explain.measures.stability import MaxSensitivity
from assay.explain.measures.subsets import _removed, _subsets
from assay.explain.methods.saliency import Saliency
from assay.explain.references import Reference
from tests.benchmarks.peers.network_of_measures import network

ROUNDS = 3
RECORDS, MAPS, STEPS, SUBSETS, COPIES = 624, 5, 49, 80, 8
BAR = 5.0
AGREE = 1e-5
VALUE = 0.45
"""What removed pixels become."""
SIZES = (32, 64, 83, 128, 256)
PEER = Path(__file__).parent / "peers" / "explain_measures.py"
PYTHON = Path(__file__).parents[2] / ".venv-peers-explain" / "bin" / "python"


class Constant(Replacement):
    """One value in place of removed pixels, as Quantus has it."""

    name: Literal["constant"] = "constant"
    modalities: ClassVar[Modalities] = frozenset({"image"})

    def prepare(self, records: MeasuredRecords) -> Fill:
        value = torch.tensor(VALUE)
        return lambda rows, removed: torch.where(removed, value, records.x[rows])


def measure() -> dict[str, Any]:
    """Returns seconds of both and Quantus's time over ours, for equal results."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as every worker does
    given = _Given()
    work: dict[str, Callable[[], Any]] = {
        "deletion": lambda: given.curves(removes_first=True),
        "insertion": lambda: given.curves(removes_first=False),
        "infidelity": given.infidelity,
        "sensitivity": given.sensitivity,
        "randomisation": given.randomisation,
        "sparseness": given.sparseness,
    }
    ours: dict[str, list[float]] = {key: [] for key in work}
    theirs: dict[str, list[float]] = {key: [] for key in work}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given.write(folder)
        for _ in range(ROUNDS):
            found = {key: _timed(ours[key], call) for key, call in work.items()}
            for key, seconds in _quantus(folder).items():
                theirs[key] += seconds
        said = {key: np.load(folder / f"{key}.npy") for key in work}
    apart = {key: float(np.abs(found[key] - said[key].reshape(found[key].shape)).max()) for key in found}
    if max(apart.values()) > AGREE:
        raise RuntimeError(f"results differ from Quantus's by {apart}: the times say nothing")
    both = {key: (statistics.median(ours[key]), statistics.median(theirs[key])) for key in ours}
    return {
        "unit": "seconds of processor time, median of alternating rounds",
        "records": RECORDS,
        "maps": MAPS,
        "assay": {key: round(own, 4) for key, (own, _) in both.items()},
        "quantus": {key: round(other, 4) for key, (_, other) in both.items()},
        "floor": given.floor(),
        "greatest_difference": apart,
        "ratio": {key: round(other / own, 2) for key, (own, other) in both.items()},
        "bar": dict.fromkeys(both, BAR),
    }


class _Given:
    """The work of both: a network, records, maps, and what is drawn for them."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        model = network().eval()
        with torch.no_grad():
            # The first logit is 0, so that Quantus's logit of class 1 is the log-odds.
            model[-1].weight[0], model[-1].bias[0] = 0.0, 0.0
        x = torch.from_numpy(PlantedImages(size=RECORDS).load().x)
        generator = torch.Generator().manual_seed(1)
        self.maps = [torch.randn(x.shape, generator=generator) for _ in range(MAPS)]
        self.records = MeasuredRecords(
            model=model,
            x=x,
            target=torch.ones(RECORDS, dtype=torch.long),
            reference=Reference(modality="image", background=x[:50], source="50 records"),
            pool=x,
            seed=0,
        )
        self.gradient = self._again(model, x)

    def _again(self, model: Any, x: Tensor) -> Tensor:
        return Saliency().explain(model, x, self.records.target, self.records.reference).values

    def write(self, folder: Path) -> None:
        """Writes what Quantus is given."""
        records = self._fresh()
        shares = (0.1, 0.3, 0.5, 0.7, 0.9)
        removed = [_removed(records, share, number) for share in shares for number in range(SUBSETS // len(shares))]
        near = torch.stack(list(MaxSensitivity(copies=COPIES)._near(records)))
        random = cascade(records.model, seeds.torch_seed(records.seed, "cascade"), most=Cascade().most)
        torch.save(records.model.state_dict(), folder / "weights.pt")
        torch.save([one.state_dict() for one in random], folder / "cascade.pt")
        np.savez(
            folder / "given.npz",
            x=records.x.numpy(),
            maps=torch.stack(self.maps).numpy(),
            gradient=self.gradient.numpy(),
            removed=torch.stack(removed).flatten(2).numpy(),
            near=near.numpy(),
            value=VALUE,
        )

    def _fresh(self) -> MeasuredRecords:
        """Returns the records without anything that was computed before: each round asks the network anew."""
        return replace(self.records, cache={})

    def curves(self, *, removes_first: bool) -> np.ndarray:
        """Returns the curves of all maps, (maps, n, states)."""
        records = self._fresh()
        fill = Constant().prepare(records)
        ranked = [ranks(one, records.ties) for one in self.maps]
        found = [curve(records, one, fill, STEPS, removes_first=removes_first).T.numpy() for one in ranked]
        return np.stack(found)[:, :, 1:]

    def infidelity(self) -> np.ndarray:
        """Returns the mean squared error of all maps, (maps, n), from the same subsets as Quantus."""
        records, found = self._fresh(), []
        for one in self.maps:
            subsets = _subsets(records, MeasuredMap(values=one, entries=one, kind="slopes"), Constant(), SUBSETS)
            found.append((subsets.happened - subsets.said).square().mean(1).numpy())
        return np.stack(found)

    def _of_method(self) -> MeasuredMap:
        return MeasuredMap(values=self.gradient, entries=self.gradient, kind="slopes", again=self._again)

    def sensitivity(self) -> np.ndarray:
        """Returns the greatest change of the gradient, (n,)."""
        return MaxSensitivity(copies=COPIES).score(self._fresh(), self._of_method()).numpy()

    def randomisation(self) -> np.ndarray:
        """Returns the mean correlation with gradients of networks with random layers, (n,)."""
        return Cascade().score(self._fresh(), self._of_method()).numpy()

    def sparseness(self) -> np.ndarray:
        """Returns the Gini index of all maps, (maps, n)."""
        records = self._fresh()
        return np.stack([Sparseness().score(records, MeasuredMap(values=one)).numpy() for one in self.maps])

    @torch.no_grad()
    def floor(self) -> dict[str, float]:
        """Returns the seconds of the network alone."""
        reader, x = self.records.reader, self.records.x
        forward = min(_of_row(reader, x[:size]) for size in SIZES)
        backward = min(_of_row(lambda some: self._again(self.records.model, some), x) for _ in range(3))
        rows = {"deletion": MAPS * STEPS, "insertion": MAPS * STEPS, "infidelity": SUBSETS + 1}
        passes = {key: count * RECORDS * forward for key, count in rows.items()}
        stages = len(list(cascade(self.records.model, 0, most=Cascade().most)))
        passes |= {"sensitivity": COPIES * RECORDS * backward, "randomisation": stages * RECORDS * backward}
        return {key: round(value, 3) for key, value in passes.items()}


def _of_row(call: Callable[[Tensor], Tensor], rows: Tensor) -> float:
    """Returns the processor time of a row, the median of repeated calls."""
    taken = []
    for _ in range(max(3, 2000 // len(rows))):
        began = time.process_time()
        call(rows)
        taken.append((time.process_time() - began) / len(rows))
    return statistics.median(taken)


def _timed(seconds: list[float], work: Callable[[], Any]) -> np.ndarray:
    began = time.process_time()
    found: np.ndarray = work()
    seconds.append(time.process_time() - began)
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
