"""Made-up trials of a sweep: a store of many of them within seconds, or their columns alone."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from assay.results import TELLS_OF
from assay.store.columns import ABOUT, COLUMNS, HEADLINES
from assay.store.files import Files
from assay.store.index import Changes, Index
from assay.store.reader import load_rows
from assay.store.rows import MEASUREMENT_SCHEMA
from assay.store.settings import settings_of

RADII = (0.1, 0.3)
_AT_ONCE = 2_000


def points(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Settings and figures of random points: adversarial and private training, of which a tenth fail and half are not
    private. Accuracy falls with both, as it does in truth."""
    draw = np.random.default_rng(seed)
    epsilon = draw.choice([0.05, 0.1, 0.15, 0.2, 0.3, 0.4], count)
    steps = draw.choice([1, 3, 7, 14], count)
    rate = 10 ** draw.uniform(-3.5, -1.5, count)
    batch = draw.choice([32, 64, 128, 256], count)
    private = draw.random(count) < 0.5
    budget = np.where(private, draw.choice([0.5, 1.0, 2.0, 4.0, 8.0], count), np.nan)
    cost = np.where(private, 0.05 / np.sqrt(np.nan_to_num(budget, nan=1)), 0)
    off = 0.03 * (np.log10(rate) + 2.4) ** 2
    accuracy = 0.96 - 0.15 * epsilon - cost - off + draw.normal(0, 0.012, count)
    robust = accuracy - 0.5 * np.exp(-9 * epsilon * np.log2(steps + 1) / 2) - 0.05 + draw.normal(0, 0.015, count)
    figures = {
        "accuracy": np.clip(accuracy, 0, 1),
        "worst_case": np.clip(robust, 0, 1),
        "epsilon": budget,
        "training_seconds": (0.2 + 0.12 * steps) * 64 / batch * draw.lognormal(0, 0.1, count),
    }
    failed = draw.random(count) < 0.1
    known = {key: np.where(failed, np.nan, values) for key, values in figures.items()}
    settings = {"objective.epsilon": epsilon, "objective.steps": steps, "training.learning_rate": rate}
    return {**settings, "training.batch_size": batch, "privacy.epsilon": budget, **known, "failed": failed}


def recipe(point: dict[str, Any]) -> dict[str, Any]:
    """The recipe of a point, with as many settings that never vary as a true one has."""
    budget = point["privacy.epsilon"]
    attack = {"epsilon": float(point["objective.epsilon"]), "steps": int(point["objective.steps"])}
    training = {
        "learning_rate": float(point["training.learning_rate"]),
        "batch_size": int(point["training.batch_size"]),
    }
    return {
        "objective": {"name": "pgd", **attack, "relative_step": 2.5, "norm": "linf", "random_start": True},
        "training": {**training, "epochs": 40, "optimizer": "adam", "schedule": "constant", "weight_decay": 0.0},
        "privacy": None if np.isnan(budget) else {"epsilon": float(budget), "delta": 1e-5, "max_grad_norm": 1.0},
        "federation": None,
        "data": [],
    }  # fmt: skip


def name_of(number: int) -> str:
    """The id of a trial."""
    return f"{number:020x}"


def about(point: dict[str, Any], number: int) -> dict[str, Any]:
    """What is stored with the rows of a trial."""
    asked = {
        "recipe": recipe(point), "recipe_name": f"point-{number}", "cohort": "made", "data": "d",
        "model": {"name": "mlp", "hidden": [16]}, "seed": 0, "split": {"folds": 5, "tested": "validation"},
        "fold": 0, "repeat": 0, "evaluations": [{"name": "accuracy"}, {"name": "robustness"}],
    }  # fmt: skip
    return {
        "asked": asked,
        "error": "ValueError: the loss is NaN" if point["failed"] else "",
        "seconds": 2.0,
        "training": "",
        "marks": TELLS_OF,
    }


def rows(point: dict[str, Any], number: int) -> pa.Table:
    """The rows of a trial with their metadata."""
    labels = {
        "trial": name_of(number),
        "dataset": "made",
        "model": "mlp",
        "recipe": f"point-{number}",
        "fold": 0,
        "repeat": 0,
    }
    plain = {"unit": "fraction", "n": 114, "status": "measured", "kind": "measurement", "conditions": "{}"}
    plain |= {"warnings": [], "flags": [], "concerns": [], "rule": ""}
    worst = [(f"{radius}", point["worst_case"] * (1 - radius)) for radius in RADII]
    found = [
        {"name": "accuracy", "value": point["accuracy"]},
        {"name": "training_seconds", "value": point["training_seconds"]},
    ]
    found += [{"name": "epsilon", "value": point["epsilon"]}] if not np.isnan(point["epsilon"]) else []
    found += [
        {
            "name": "worst_case_accuracy",
            "value": value,
            "conditions": json.dumps({"norm": "linf", "epsilon": float(radius)}),
        }
        for radius, value in worst
    ]
    if point["failed"]:
        found = [{"name": "trial", "status": "failed", "warnings": ["ValueError: the loss is NaN"]}]
    for row in found:
        value = row.get("value")
        if value is not None:
            row |= {"value": float(value), "low": float(value) - 0.03, "high": float(value) + 0.03}
    table = pa.Table.from_pylist([{**labels, **plain, **row} for row in found], schema=MEASUREMENT_SCHEMA)
    return table.replace_schema_metadata({ABOUT: json.dumps(about(point, number)).encode()})


def each(drawn: dict[str, np.ndarray]) -> Any:
    """The points one by one."""
    for values in zip(*drawn.values(), strict=True):
        yield dict(zip(drawn, values, strict=True))


def fill(folder: Path, count: int, *, seed: int = 0) -> None:
    """Writes an index of made-up trials by the store's own code. Their results files are empty: the index has rows."""
    (folder / "trials").mkdir(parents=True)
    files = Files(str(folder))
    index = Index(files, partial(load_rows, files), MEASUREMENT_SCHEMA)
    for number, point in enumerate(each(points(count, seed))):
        place = "trials", name_of(number)
        (folder / "trials" / f"{place[1]}.parquet").touch()
        index._take(place, files.stamp(f"trials/{place[1]}.parquet"), rows(point, number))
        if number % _AT_ONCE == 0:
            index.save()
    index.save()
    index.write_columns()


def changes(count: int, *, seed: int = 0, first: int = 0) -> Changes:
    """The columns of trials as an index would give them, without any file; ``first`` is the number of the first."""
    drawn = points(count, seed)
    made = list(each(drawn))
    empty = pa.nulls(count)
    lists = [_settings(point) for point in made]
    worst = [
        []
        if point["failed"]
        else [{"norm": "linf", "epsilon": r, "accuracy": float(point["worst_case"] * (1 - r))} for r in RADII]
        for point in made
    ]
    known: dict[str, Any] = {
        "folder": ["trials"] * count, "trial": [name_of(first + number) for number in range(count)],
        "cohort": ["made"] * count, "dataset": ["made"] * count, "model": ["mlp"] * count, "recipe": ["point"] * count,
        "fold": np.zeros(count, np.int32), "repeat": np.zeros(count, np.int32), "training": [""] * count,
        "seconds": np.full(count, 2.0),
        "error": np.where(drawn["failed"], "ValueError: the loss is NaN", ""), "worst_case": worst, "settings": lists,
        **{key: drawn[key] for key in HEADLINES if key in drawn},
    }  # fmt: skip
    arrays = [
        pa.array(known[field.name], field.type) if field.name in known else empty.cast(field.type) for field in COLUMNS
    ]
    return Changes(whole=first == 0, columns=pa.table(arrays, schema=COLUMNS), gone=[])


_KNOWN: dict[tuple[float, ...], list[str]] = {}


def _settings(point: dict[str, Any]) -> list[str]:
    """The settings of a point as an index has them; points that differ in the learning rate alone share the others."""
    rate = "training.learning_rate="
    key = tuple(float(point[name]) for name in ("objective.epsilon", "objective.steps", "training.batch_size"))
    key = (*key, float(np.nan_to_num(point["privacy.epsilon"])))
    if key not in _KNOWN:
        _KNOWN[key] = [text for text in settings_of(about(point, 0)["asked"]) if not text.startswith(rate)]
    return [*_KNOWN[key], f"{rate}{float(point['training.learning_rate'])!r}"]
