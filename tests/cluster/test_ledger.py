"""On a cluster one named actor writes every ledger, and says what the file itself would say."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ray

from assay.cluster.ledger_actor import NAME, NAMESPACE, RemoteLedger, existing, opening, through_actor
from assay.errors import LedgerError
from assay.ledger import Ledger
from assay.ledger.account import ReleaseRequest
from assay.ledger.database import Collection
from assay.ledger.experiments import UNFINISHED, Experiment, Processing
from assay.ledger.protocol import LedgerProtocol
from assay.privacy.accounting import Mechanism

DATA = Collection(digest="ab" * 32, name="shared", records=60)


pytestmark = pytest.mark.usefixtures("shared_ray")


def request(trial: str, artefact: str = "") -> ReleaseRequest:
    spent = Mechanism(noise_multiplier=4.0, sample_rate=1.0, steps=2, delta=1e-5)
    return ReleaseRequest(training=trial, label=trial, charge={"central": (spent,)}, artefact=artefact)


def begin(ledger: Ledger) -> None:
    begun = Experiment(training="a", results="/r", label="a", noise="entropy", error=UNFINISHED)
    ledger.begin(begun, np.ones(60, np.uint8), request("a").charge)


def compete(folder: Path, trial: str) -> tuple[int, bool]:
    """The process of whoever tries, and whether it was let pass."""
    ledger = through_actor(folder, DATA)
    try:
        ledger.release([request(trial, "weights")], how="served", processing=Processing(), epsilon=3.0)
    except LedgerError as error:
        assert "together" in str(error) and "Traceback" not in str(error)
        return os.getpid(), False
    return os.getpid(), True


def test_all_writers_share_one_actor_and_one_budget(tmp_path: Path) -> None:
    work = ray.remote(compete)
    found = ray.get([work.remote(tmp_path, f"trial {number}") for number in range(6)])
    assert len({process for process, _ in found}) > 1, "several processes tried"
    ledger = through_actor(tmp_path, DATA)
    account = ledger.account()
    assert 1 < sum(passed for _, passed in found) == len(account.charges) < 6
    assert account.held <= 3.0
    assert account == Ledger.create(tmp_path, DATA).account()
    assert (ledger.name, ledger.records, ledger.path) == ("shared", 60, tmp_path / DATA.file)
    assert existing(ledger.path).budgets() == ledger.budgets()
    assert ray.get_actor(NAME, NAMESPACE) is not None


def test_one_actor_answers_every_question(tmp_path: Path) -> None:
    ledger = through_actor(tmp_path, DATA)

    def process() -> int:
        return int(ray.get(ray.get_actor(NAME, NAMESPACE).__ray_call__.remote(lambda clerk: os.getpid())))

    first = process()
    for _ in range(3):
        assert ledger.budgets() == []
    assert process() == first


def test_a_lost_answer_may_be_asked_for_again(tmp_path: Path) -> None:
    ledger = through_actor(tmp_path, DATA)
    ledger.set_budget(2.0)
    for _ in range(2):
        begin(ledger)
    ray.kill(ray.get_actor(NAME, NAMESPACE), no_restart=False)
    begin(ledger)
    # Nor does it matter that the job which made the actor has ended, and the actor with it.
    ray.kill(ray.get_actor(NAME, NAMESPACE), no_restart=True)
    begin(ledger)
    assert [held.state for held in Ledger(ledger.path).account().charges] == ["trained"]
    assert len(ledger.trainings("/r")) == 1
    # The next actor may lie on another machine, where the file is not: it makes no new one.
    assert through_actor(tmp_path, DATA, ledger.mark()).mark() == Ledger(ledger.path).mark()
    with pytest.raises(LedgerError, match="would forget what was spent"):
        through_actor(tmp_path / "elsewhere", DATA, ledger.mark())
    with pytest.raises(AttributeError):
        _ = ledger.forge  # type: ignore[attr-defined]


def test_only_who_joins_a_cluster_asks_its_actor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    path = Ledger.create(tmp_path, DATA).path
    assert opening() is through_actor, "this process has joined one"
    assert isinstance(existing(path), RemoteLedger)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    assert opening() == Ledger.create
    assert isinstance(existing(path), Ledger)
    assert opening("auto") is through_actor
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert opening() is through_actor
    assert isinstance(existing(path), RemoteLedger)


def test_a_ledger_is_reached_without_ray_where_no_cluster_is(tmp_path: Path) -> None:
    """As a process of its own: this one has imported Ray."""
    asked = (
        "import sys; from pathlib import Path\n"
        "from assay.cluster.ledger_actor import cluster_joined, existing, opening\n"
        f"with cluster_joined(): assert existing(Path({str(Ledger.create(tmp_path, DATA).path)!r})).budgets() == []\n"
        "opening(); assert not {'ray', 'torch'} & set(sys.modules)"
    )
    outside = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    subprocess.run([sys.executable, "-c", asked], env=outside, check=True)


def test_both_ledgers_answer_whatever_the_protocol_asks() -> None:
    asked = {name for name in vars(LedgerProtocol) if not name.startswith("_")}
    assert len(asked) > 20
    for ledger in (Ledger, RemoteLedger):
        assert asked <= vars(ledger).keys()
        for name in asked:
            if inspect.isfunction(expected := vars(LedgerProtocol)[name]):
                assert inspect.signature(getattr(ledger, name)) == inspect.signature(expected), name
