"""The mirror shows what is stored, and its failure is one warning."""

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
from wandb.proto import wandb_internal_pb2

from assay.results import TELLS_OF, Measurement, TrialRecord, not_applicable
from assay.tracking import mirror

STUDY = SimpleNamespace(name="made")


def record(trial: str, *, noise: str = "") -> TrialRecord:
    return TrialRecord(
        trial=trial,
        dataset="made",
        model="mlp",
        recipe="standard",
        fold=0,
        repeat=0,
        seconds=1.5,
        measurements=(
            Measurement(name="accuracy", value=0.75),
            Measurement(name="membership_auc", value=0.625, conditions={TELLS_OF: "training records"}),
            Measurement(name="robust_accuracy", value=0.5, conditions={"attack": "pgd", "epsilon": 0.1, "steps": 20}),
            not_applicable("epsilon", "not private"),
        ),
        provenance={"asked": {"seed": 7, "recipe": {"privacy": {"noise": noise} if noise else None}}},
    )


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of three offline runs, the third of a sweep: W&B starts a process of its own, which takes seconds."""
    folder = tmp_path_factory.mktemp("offline")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_DIR", str(folder))
        with mirror(STUDY, enabled=True, warn=pytest.fail) as show:
            show(record("first"))
            show(record("second"))
        with mirror(STUDY, enabled=True, warn=pytest.fail, sweep="sweep-privacy-made") as show:
            show(OF_A_SWEEP)
        wandb.teardown()  # its own process writes the files, and may not have when a run says that it has finished
    return folder


OF_A_SWEEP = replace(record("third"), training="model-key", artefact="hash-of-the-weights")


def test_each_record_becomes_one_offline_run(offline: Path) -> None:
    for trial in ("first", "second"):
        (kept,) = offline.glob(f"wandb/offline-run-*-{trial}/*.wandb")
        content = kept.read_bytes()
        for said in (b"accuracy", b"robust_accuracy/attack=pgd/epsilon=0.1", b"0.75", b"seconds"):
            assert said in content
        assert b"epsilon/" not in content


def contents(file: Path) -> Iterator[wandb_internal_pb2.Record]:
    """What an offline run holds, as W&B would send it: messages in a LevelDB log, behind a head of seven bytes."""
    data, place, parts = file.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # the rest of a block that is too short for a head
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def test_an_offline_run_of_a_sweep_holds_what_the_store_holds(offline: Path) -> None:
    (file,) = offline.glob("wandb/offline-run-*-third/*.wandb")
    run, settings, figures = None, {}, {}
    for entry in contents(file):
        if entry.WhichOneof("record_type") == "run":
            run = entry.run
            settings |= {item.key: json.loads(item.value_json) for item in entry.run.config.update}
        if entry.WhichOneof("record_type") == "history":
            figures |= {
                "/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in entry.history.item
            }
    assert run is not None
    assert (run.run_id, run.run_group, run.job_type) == ("third", "sweep-privacy-made", "sweep")
    assert settings.items() >= {**OF_A_SWEEP.provenance["asked"], "sweep": "sweep-privacy-made"}.items()
    assert (settings["training"], settings["artefact"]) == ("model-key", "hash-of-the-weights")
    measured = {name: value for name, value in figures.items() if not name.startswith("_")}
    assert measured == {
        "accuracy": 0.75,
        "membership_auc": 0.625,
        "robust_accuracy/attack=pgd/epsilon=0.1": 0.5,
        "seconds": 1.5,
        "failed": 0,
    }


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """What each run would have sent."""
    found: list[dict[str, float]] = []
    run = SimpleNamespace(log=found.append, finish=lambda: None)
    monkeypatch.setattr(wandb, "init", lambda **_: run)
    return found


COST = {"seconds", "failed"}


@pytest.mark.parametrize(
    ("noise", "names"),
    [
        ("", {"accuracy", "robust_accuracy/attack=pgd/epsilon=0.1"} | COST),
        ("seeded", {"accuracy", "robust_accuracy/attack=pgd/epsilon=0.1"} | COST),
        ("entropy", COST),
    ],
)
@pytest.mark.parametrize("mode", ["online", "shared"])
def test_online_nothing_leaves_that_a_ledger_would_charge_for_or_never_let_go(
    sent: list[dict[str, float]], monkeypatch: pytest.MonkeyPatch, mode: str, noise: str, names: set[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    warnings: list[str] = []
    with mirror(STUDY, enabled=True, warn=warnings.append) as show:
        show(record("first", noise=noise))
        show(record("second", noise=noise))
    assert [set(figures) for figures in sent] == [names, names]
    assert len(warnings) == 1
    assert "no ledger charges for it" in warnings[0]


@pytest.mark.parametrize("noise", ["", "entropy"])
def test_offline_everything_measured_is_mirrored_without_a_word(
    sent: list[dict[str, float]], monkeypatch: pytest.MonkeyPatch, noise: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    with mirror(STUDY, enabled=True, warn=pytest.fail) as show:
        show(record("first", noise=noise))
    assert set(sent[0]) == {"accuracy", "membership_auc", "robust_accuracy/attack=pgd/epsilon=0.1"} | COST


def test_a_failing_mirror_warns_once_and_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, warnings = [], []

    def fail(**_: object) -> None:
        calls.append(1)
        raise ConnectionError("no route to host")

    monkeypatch.setattr(wandb, "init", fail)
    monkeypatch.setenv("WANDB_MODE", "offline")
    with mirror(STUDY, enabled=True, warn=warnings.append) as show:
        show(record("first"))
        show(record("second"))
    assert len(calls) == len(warnings) == 1
    assert "ConnectionError: no route to host" in warnings[0]


def test_a_mirror_that_is_off_touches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wandb, "init", lambda **_: pytest.fail("W&B was called"))
    with mirror(STUDY, enabled=False, warn=pytest.fail) as show:
        show(record("first"))


@pytest.mark.parametrize(("given", "kept"), [(None, "offline"), ("online", "online"), ("disabled", "disabled")])
def test_it_is_offline_unless_the_user_says_otherwise(
    given: str | None, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", given or "")
    if given is None:
        monkeypatch.delenv("WANDB_MODE")
    with mirror(STUDY, enabled=True, warn=pytest.fail):
        assert os.environ["WANDB_MODE"] == kept
