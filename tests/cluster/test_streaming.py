"""A streamed training is the training that has its records in memory, whoever decodes them and wherever."""

import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.cluster import streaming
from assay.cluster.streaming import Streamed
from assay.cluster.train import train_distributed
from assay.data.base import Dataset
from assay.data.splits import Splitting
from assay.errors import DataError, IncompatibleRecipeError
from assay.executors import LocalExecutor
from assay.models.cnn import CNN
from assay.models.imported import Imported
from assay.recipes import Privacy, Recipe, Training
from assay.study.training import train_trial
from assay.study.trial import Trial
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.checkpoints import from_bytes, restore_trainer, trainer_state
from assay.training.loop import Trainer

SHAPE = (2, 6, 5)
RECORDS = 90
CPU = torch.device("cpu")
SGD = Training(epochs=2, batch_size=16, optimizer="sgd", learning_rate=0.05)
RECIPES = {
    "standard": Recipe(training=SGD),
    "adversarial": Recipe(objective={"name": "pgd", "epsilon": 0.1, "steps": 2}, training=SGD),
    "private": Recipe(privacy=Privacy(epsilon=8.0), training=SGD.model_copy(update={"batch_size": 3})),
}


@dataclass(frozen=True)
class Drawn:
    """Records that are drawn anew whenever they are asked for, each from its position; some cannot be."""

    records: int = RECORDS
    record: tuple[int, ...] = SHAPE
    corrupt: tuple[int, ...] = ()
    log: str = ""
    """A file that notes how many were asked for at a time."""
    shifted: float = 0.0
    dtype: np.dtype = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.records, *self.record

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.records

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        if self.log:
            with Path(self.log).open("a") as log:
                log.write(f"{len(rows)}\n")
        return np.stack([self._one(row) for row in np.asarray(rows).tolist()])

    def _one(self, row: int) -> np.ndarray:
        if row in self.corrupt:
            raise DataError(f"record {row} is corrupt: repair or remove it")
        uniform = np.random.default_rng(row).uniform(size=self.record)
        return ((uniform + row % 2 + self.shifted) / 3).astype(np.float32)

    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()


@dataclass(frozen=True)
class Shifted:
    """A preparation that leaves other records."""

    def fit(self, dataset: Dataset, train: np.ndarray, *, seed: int) -> Dataset:
        return replace(dataset, x=Drawn(shifted=1.0), preparation=None)

    def describe(self) -> str:
        return "shifted"


class Doubled(nn.Sequential):
    """Sums in float64, so that one worker and two may be compared."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.double())


def doubled() -> nn.Module:
    return Doubled(nn.Flatten(), nn.Linear(int(np.prod(SHAPE)), 8), nn.Tanh(), nn.Linear(8, 2)).double()


def labelled(x: Drawn, **settings: object) -> Dataset:
    return Dataset(
        name="drawn",
        x=x,
        y=np.arange(len(x)) % 2,
        class_names=("even", "odd"),
        feature_names=(),
        low=np.zeros((1, 1, 1), np.float32),
        high=np.ones((1, 1, 1), np.float32),
        units="1",
        epsilons=(0.1,),
        modality="image",
        **settings,
    )


def trial_of(dataset: Dataset, recipe: Recipe) -> Trial:
    return Trial(
        cohort="drawn", recipe_name="tested", fold=0, repeat=0, seed=3, threads=1, splitting=Splitting(folds=3),
        model=Imported(factory="tests.cluster.test_streaming:doubled"), recipe=recipe, evaluations=(),
        data_digest=dataset.digest, dataset_name=dataset.name,
    )  # fmt: skip


def fed(recipe: Recipe, x: Tensor | Streamed, rows: np.ndarray) -> Trainer:
    """A trainer of a small network on some of the drawn records."""
    return build_trainer(
        CNN(channels=(4,), hidden=8).build(SHAPE, 2, seed=1), recipe, x, torch.from_numpy(np.arange(RECORDS)[rows] % 2),
        bounds=Bounds(low=torch.tensor(0.0), high=torch.tensor(1.0)), seed=5, classes=2,
    )  # fmt: skip


def streamed(x: Drawn | None = None, rows: np.ndarray | None = None, *, readers: int = 1) -> Streamed:
    x = x or Drawn()
    return Streamed(
        x, np.arange(len(x)) % 2, np.arange(len(x)) if rows is None else rows, device=CPU, readers=readers
    )  # fmt: skip


pytestmark = pytest.mark.usefixtures("shared_ray")


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_streamed_training_equals_the_one_in_memory_bit_for_bit(recipe: Recipe, given_noise: float) -> None:
    rows = np.arange(RECORDS)[::-1][:70].copy()
    there, here = fed(recipe, streamed(rows=rows), rows), fed(recipe, torch.from_numpy(Drawn()[rows]), rows)
    there.run()
    here.run()
    assert there.losses == here.losses
    for name, weights in here.model.state_dict().items():
        assert torch.equal(there.model.state_dict()[name], weights), name


def test_a_streamed_training_goes_on_from_its_state() -> None:
    rows = np.arange(RECORDS)
    whole = fed(RECIPES["standard"], streamed(), rows)
    whole.run()
    first, second = (fed(RECIPES["standard"], streamed(), rows) for _ in range(2))
    first.run(1)
    restore_trainer(second, trainer_state(first))
    second.run()
    assert second.losses == whole.losses


@pytest.mark.parametrize("block", [1, 1000, 8 << 20])
def test_batches_of_any_size_come_whole_and_in_order(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one record, of four, and of the longest batch."""
    monkeypatch.setattr(streaming, "_BLOCK", block)
    rows = np.random.default_rng(0).permutation(RECORDS)[:60]
    batches = np.split(np.random.default_rng(1).permutation(60), [1, 2, 30, 33])
    found = list(streamed(rows=rows, readers=2).follow(batches))
    assert len(found) == len(batches)
    for positions, (x, y) in zip(batches, found, strict=True):
        assert torch.equal(x, torch.from_numpy(Drawn()[rows[positions]]))
        assert y.tolist() == (rows[positions] % 2).tolist()


def test_no_batches_ask_for_nothing() -> None:
    assert list(streamed().follow([])) == []


def test_decoding_stays_a_few_batches_ahead(tmp_path: Path) -> None:
    """Of 200 batches, however much of the object store is free."""
    drawn = Drawn(records=400, log=str(tmp_path / "log"))
    stream = streamed(drawn).follow(np.split(np.arange(400), 200))
    next(stream)
    asked = lambda: sum(map(int, Path(drawn.log).read_text().split()))
    before = 0
    while asked() > before:
        before = asked()
        time.sleep(1.5)
    assert 2 < before <= 2 * (1 + streaming._AHEAD + 5)
    assert len(list(stream)) == 199


def test_an_undecodable_record_is_the_users_error_as_it_was_raised() -> None:
    stream = streamed(Drawn(corrupt=(70,))).follow(np.split(np.arange(RECORDS), 9))
    with pytest.raises(DataError) as raised:
        list(stream)
    assert str(raised.value) == "record 70 is corrupt: repair or remove it"


def test_treatments_of_all_records_are_refused_before_any_worker_starts(tmp_path: Path) -> None:
    dataset = labelled(Drawn())
    recipe = Recipe(training=SGD, data=({"name": "label_flips", "share": 0.1},))
    with pytest.raises(IncompatibleRecipeError, match="streamed"):
        train_distributed(
            trial_of(dataset, recipe), dataset, workers=2, storage=str(tmp_path), watch=lambda *_: None
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_two_workers_that_stream_prepared_records_equal_one_process(tmp_path: Path) -> None:
    """As many workers as processors: what decodes must find room beside them."""
    dataset = labelled(Drawn(), preparation=Shifted())
    trial = trial_of(dataset, RECIPES["adversarial"])
    told: list[int] = []
    found = train_distributed(
        trial, dataset, workers=2, storage=str(tmp_path), watch=lambda epoch, *_: told.append(epoch)
    )  # fmt: skip
    assert told == [1, 2]
    weights, about = from_bytes(found.checkpoint, "found")
    expected, central = from_bytes(train_trial(trial, LocalExecutor(), dataset).checkpoint, "expected")
    assert about["workers"] == 2
    np.testing.assert_allclose(about["losses"], central["losses"], atol=1)
    for name, value in expected.items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(weights[name], value, atol=1e-10, rtol=0)
