"""A newcomer's own data: the study files that jobs/README.md shows, run as they stand there on data of their kind."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from assay.executors import LocalExecutor
from assay.store.folder import Store
from assay.study.reading import read_study
from assay.study.run import run_study

README = Path(__file__).parents[2] / "jobs" / "README.md"
STUDIES = {
    name: block
    for block in re.findall(r"```yaml\n(.*?)```", README.read_text(), flags=re.DOTALL)
    if (name := str(yaml.safe_load(block).get("name", ""))).startswith("my-")
}


def images(folder: Path) -> None:
    """Forty photographs: bright in the middle or not."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for label in ("normal", "pneumonia"):
        (folder / "xrays" / label).mkdir(parents=True)
        for number in range(20):
            pixels = generator.integers(0, 90, (40, 48), dtype=np.uint8)
            pixels[10:30, 12:36] += 120 if label == "pneumonia" else 0
            Image.fromarray(pixels).save(folder / "xrays" / label / f"{number}.png")


def notes(folder: Path) -> None:
    """Eighty notes of two moods."""
    generator = np.random.default_rng(0)
    moods = (["pain", "fever", "worse", "weak"], ["better", "calm", "fine", "well"])
    lines = [
        " ".join(generator.permutation([*generator.choice(moods[i % 2], 3), "patient", "feels"])) + f",{i % 2}"
        for i in range(80)
    ]
    (folder / "notes.csv").write_text("text,label\n" + "\n".join(lines))


def signals(folder: Path) -> None:
    """Sixty waves of two speeds, from twenty patients."""
    generator = np.random.default_rng(0)
    y = np.arange(60) % 2
    time = np.linspace(0, 6, 100)
    x = np.sin((1 + 3 * y)[:, None] * time + generator.uniform(0, 1, (60, 1))) + 0.1 * generator.normal(size=(60, 100))
    np.savez(folder / "beats.npz", x=x[:, None].astype(np.float32), y=y, groups=np.arange(60) // 3)


def ward(folder: Path) -> None:
    """Eighty records of forty patients, with gaps: the older are ill."""
    generator = np.random.default_rng(0)
    age = np.repeat(generator.permutation(np.arange(20, 100, 2)), 2)
    dose = generator.integers(0, 50, 80)
    lines = [f"p{i // 2},{age[i]},{dose[i]},{'fm'[i % 2]},{'ill' if age[i] > 60 else 'well'}" for i in range(80)]
    (folder / "ward.csv").write_text("\n".join(["patient,age,dose,sex,outcome", *lines]))


MADE = {"my-ward": ward, "my-xrays": images, "my-notes": notes, "my-beats": signals}


def test_readme_shows_a_study_for_each_kind_of_data() -> None:
    assert set(STUDIES) == set(MADE)


@pytest.mark.parametrize("name", MADE)
def test_a_study_of_ones_own_data_takes_fewer_than_fifteen_lines(name: str) -> None:
    assert len(STUDIES[name].strip().splitlines()) < 15


@pytest.mark.parametrize("name", MADE)
def test_it_runs_as_it_stands(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watcher: Any) -> None:
    monkeypatch.chdir(tmp_path)
    MADE[name](tmp_path)
    (tmp_path / "mine.yaml").write_text(STUDIES[name])
    quick = (
        "split.folds=2",
        *(f"cohorts.mine.recipes.{recipe}.training.epochs=3" for recipe in ("standard", "robust")),
    )
    study = read_study("mine.yaml", quick, folder=tmp_path)
    asked = study.cohorts["mine"]
    few = tuple(
        e.model_copy(
            update={
                key: value
                for key, value in {"records": 10, "steps": 2, "points": 8, "draws": 50}.items()
                if key in type(e).model_fields
            }
        )
        for e in asked.evaluations
    )
    study = study.model_copy(update={"cohorts": {"mine": asked.model_copy(update={"evaluations": few})}})
    store = Store(str(tmp_path / "results"))
    summary = run_study(study, store, LocalExecutor(), watcher=watcher(), publish=lambda datasets: None)
    assert not summary.failures
    frame = store.frame()
    assert not (frame["status"] == "failed").any(), frame[frame["status"] == "failed"][["name", "warnings"]]
    missing = frame[frame["status"] == "not_applicable"]
    assert all(len(warnings) and len(warnings[0]) > 10 for warnings in missing["warnings"])
    standard = frame[(frame["name"] == "accuracy") & (frame["recipe"] == "standard")]
    assert standard["value"].mean() > 0.7
