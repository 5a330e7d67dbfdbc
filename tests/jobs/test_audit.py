"""An audit from the command line: its table, its JSON, and what its exit code says."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from torch import Tensor

from assay.privacy.update import PrivateUpdate
from jobs.audit import main
from jobs.console import run

Run = Callable[..., tuple[int, str]]
"""Exit code, and what was printed on standard output."""


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The job in this process, on a small study: exit code, and what it printed on standard output."""
    generator, y = np.random.default_rng(0), np.arange(80) % 2
    x = (generator.normal(size=(80, 3)) + y[:, None]).clip(-4, 5)
    np.savez(tmp_path / "made.npz", x=x, y=y)
    np.savez(tmp_path / "split.npz", x=x, y=y, split=np.repeat(["train", "test"], 40))
    training = {"epochs": 4, "batch_size": 100}
    cohort = {
        "dataset": {"name": "arrays", "path": str(tmp_path / "made.npz"), "low": -4, "high": 5},
        "model": {"name": "mlp", "hidden": []},
        "recipes": {
            "plain": {"training": training},
            "private": {"training": training, "privacy": {"epsilon": 1}},
            "other": {"training": training, "privacy": {"epsilon": 2}},
        },
    }
    official = {**cohort, "dataset": {**cohort["dataset"], "path": str(tmp_path / "split.npz")}}
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({"name": "made", "cohorts": {"made": cohort, "official": official}}))

    def begin(*options: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["audit", str(path), *options])
        with pytest.raises(SystemExit) as end:
            run(main)
        return int(end.value.code or 0), capsys.readouterr().out

    return begin


def without_noise(self: PrivateUpdate, total: list[Tensor], batch: np.ndarray, step: int) -> list[Tensor]:
    return [gradient / (self.planned.sample_rate * self._sampling.units) for gradient in total]


def test_a_sound_trainer_passes_with_a_table(audit: Run) -> None:
    code, said = audit("--recipe", "private")
    assert code == 0, said
    assert "made · private · fold 1" in said
    assert "epoch 4 of 4" in said
    for head in ("ε, at least", "ε, claimed", "confidence", "canaries", "guesses", "mechanism"):
        assert head in said
    assert "1000 in gradient space" in said


def test_json_is_all_that_stands_on_standard_output(audit: Run) -> None:
    options = ("--canaries", "2000", "--confidence", "0.9", "--audits", "3", "--cohort", "official")
    code, said = audit("--recipe", "private", "--json", *options)
    found: dict[str, Any] = json.loads(said)
    assert code == 0
    assert (found["study"], found["cohort"], found["recipe"], found["fold"]) == ("made", "official", "private", 1)
    assert (found["canaries"], found["confidence"], found["audits"]) == (2000, 0.9, 3)
    assert 0 <= found["epsilon_audited"] < found["claimed_epsilon"] <= 1
    assert found["verdict"] == "pass"
    assert {check["verdict"] for check in found["checks"].values()} == {"pass"}


def test_too_few_canaries_are_inconclusive_and_no_pass(audit: Run) -> None:
    code, said = audit("--recipe", "private", "--canaries", "20")
    assert code == 0
    assert said.count("inconclusive") == 1, "a bug would show in the guesses, and not in how far a canary moves"
    code, said = audit("--recipe", "private", "--canaries", "20", "--json")
    found = json.loads(said)
    assert (code, found["verdict"]) == (0, "inconclusive")
    assert found["checks"]["clipped_record_by_record"]["verdict"] == "warn"


def test_a_bound_above_the_claim_ends_with_exit_code_1(audit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PrivateUpdate, "finish", without_noise)
    code, said = audit("--recipe", "private")
    assert code == 1
    assert "a bug in the trainer" in " ".join(said.split())
    code, said = audit("--recipe", "private", "--json")
    found = json.loads(said)
    assert code == 1
    assert found["epsilon_audited"] > found["claimed_epsilon"]
    assert (found["verdict"], found["checks"]["audit_below_claim"]["verdict"]) == ("fail", "fail")


def test_a_plain_recipe_is_audited_in_input_space_alone(audit: Run) -> None:
    code, said = audit("--recipe", "plain")
    assert code == 2
    assert "ask in space: input" in " ".join(said.split())
    code, said = audit("--recipe", "plain", "--space", "input", "--json")
    found = json.loads(said)
    assert code == 0
    assert (found["claimed_epsilon"], found["space"]) == (None, "input")


def test_a_mistake_leaves_standard_output_empty_where_json_was_asked_for(audit: Run) -> None:
    code, said = audit("--recipe", "missing", "--json")
    assert (code, said) == (2, "")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--recipe", "missing"), "unknown recipe 'missing'"),
        (("--recipe", "private", "--confidence", "1.5"), "confidence"),
        (("--recipe", "private", "--fold", "9"), "fold 9 does not exist"),
        (("--recipe", "private", "--cohort", "official", "--fold", "2"), "keeps its official split"),
    ],
)
def test_a_mistake_is_named(audit: Run, options: tuple[str, ...], why: str) -> None:
    code, said = audit(*options)
    assert code == 2
    assert why in " ".join(said.split())


def test_the_noise_of_another_recipe_is_compared_on_request(audit: Run) -> None:
    options = ("--recipe", "private", "--canaries", "200", "--json")
    code, said = audit(*options, "--against", "other")
    found = json.loads(said)["checks"]["noise_of_its_own"]
    assert code == 0
    assert (found["verdict"], "from one seed" in found["message"]) == ("warn", True)
    code, said = audit(*options, "--against", "plain")
    assert (code, said) == (2, "")
