"""A study finds the ledger again that it has used, from whatever folder or machine, or is refused."""

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.data.base import Dataset
from assay.data.tabular import WisconsinBreastCancer
from assay.errors import LedgerError
from assay.ledger import Ledger
from assay.ledger.account import ReleaseRequest
from assay.ledger.experiments import Processing
from assay.privacy.accounting import Mechanism
from assay.privacy.composition import Charge
from assay.release.ledgers import collection_of, ledger_folder, open_ledger
from assay.store.folder import Store
from assay.study.plan import load_datasets
from assay.study.spec import Study


@pytest.fixture
def dataset(tiny: Callable[..., Study]) -> Dataset:
    (found,) = load_datasets(tiny()).values()
    return found


def test_where_the_ledger_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ASSAY_LEDGER", raising=False)
    assert ledger_folder(str(tmp_path / "quickstart"), None) == tmp_path / "ledger"
    assert ledger_folder("s3://bucket/quickstart", None) is None
    monkeypatch.setenv("ASSAY_LEDGER", str(tmp_path / "named"))
    assert ledger_folder("s3://bucket/quickstart", None) == tmp_path / "named"
    assert ledger_folder("s3://bucket/quickstart", str(tmp_path / "given")) == tmp_path / "given"


def test_a_study_never_begins_a_second_account_of_the_same_data(dataset: Dataset, tmp_path: Path) -> None:
    results = str(tmp_path / "results")
    first = open_ledger(dataset, results=results, folder=tmp_path / "ledger")
    first.set_budget(1.0)
    # As on another machine of a cluster, or under another --ledger: the folder is not where it was.
    with pytest.raises(LedgerError, match="would forget what was spent") as caught:
        open_ledger(dataset, results=results, folder=tmp_path / "elsewhere")
    assert f"{first.path} on {socket.gethostname()}" in str(caught.value)
    assert not (tmp_path / "elsewhere").exists()
    # One that others made there is another one.
    open_ledger(dataset, results=str(tmp_path / "others"), folder=tmp_path / "elsewhere")
    with pytest.raises(LedgerError, match="is another one"):
        open_ledger(dataset, results=results, folder=tmp_path / "elsewhere")
    assert open_ledger(dataset, results=results, folder=tmp_path / "ledger").budgets()[0].epsilon == 1.0


def test_a_ledger_that_was_moved_is_known_by_its_mark(dataset: Dataset, tmp_path: Path) -> None:
    results = str(tmp_path / "results")
    first = open_ledger(dataset, results=results, folder=tmp_path / "ledger")
    (tmp_path / "ledger").rename(tmp_path / "moved")
    found = open_ledger(dataset, results=results, folder=tmp_path / "moved")
    assert found.mark().id == first.mark().id
    (noted,) = (tmp_path / "results" / "ledgers").iterdir()
    assert str(found.path) in json.loads(noted.read_text())["place"]


def test_what_is_said_of_records_or_asked_of_them_gives_them_no_other_account() -> None:
    wdbc = WisconsinBreastCancer().load()
    assert wdbc.groups is None
    said: dict[str, Any] = {
        "epsilons": (0.0, 0.5),
        "units": "something else",
        "warnings": ("look out",),
        "unpaid_preprocessing": True,
        "class_names": ("no", "yes"),
        "low": wdbc.low - 1,
        "preprocessing": "told otherwise",
        "immutable": np.arange(30) < 3,
    }
    assert collection_of(replace(wdbc, **said)).digest == collection_of(wdbc).digest
    for name, other in said.items():
        assert replace(wdbc, **{name: other}).digest != wdbc.digest, name
    people: dict[str, Any] = {"x": wdbc.x / 2, "y": 1 - wdbc.y, "groups": np.arange(len(wdbc)) // 2}
    assert len({replace(wdbc, **{name: other}).identity for name, other in people.items()} | {wdbc.identity}) == 4


def test_a_resized_copy_of_the_same_patients_is_refused_beside_what_was_released(tmp_path: Path) -> None:
    """As an image data set that is loaded at another size: same name, same patients, other records."""
    made = WisconsinBreastCancer().load()
    whole = replace(made, groups=np.arange(len(made)) // 2)
    resized = replace(whole, x=np.asarray(whole.x)[:, :10], feature_names=(), low=whole.low[:10], high=whole.high[:10])
    others = replace(resized, groups=np.asarray(whole.groups) + 1000)
    charge: Charge = {"central": (Mechanism(noise_multiplier=9.0, sample_rate=0.1, steps=5, delta=1e-5),)}
    requests = [ReleaseRequest(training="t", label="t", charge=charge, artefact="weights")]

    def leave(data: Dataset) -> None:
        ledger = open_ledger(data, results=str(tmp_path / "results"), folder=tmp_path / "ledger")
        ledger.release(requests, how="served", processing=Processing(), epsilon=3.0)

    leave(whole)
    with pytest.raises(LedgerError, match=r"they share 285 patients.*two budgets"):
        leave(resized)
    leave(others)


def test_two_studies_in_one_folder_of_ledgers_have_one_account(dataset: Dataset, tmp_path: Path) -> None:
    one, other = (
        open_ledger(dataset, results=str(tmp_path / name), folder=tmp_path / "ledger") for name in ("one", "other")
    )
    assert one.mark() == other.mark() == Ledger(one.path).mark()


def test_results_that_may_only_be_read_keep_the_mark_they_have(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = str(tmp_path / "results")
    first = open_ledger(dataset, results=results, folder=tmp_path / "ledger")

    def refused(*_: object) -> str:
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(Store, "write_text", refused)
    monkeypatch.setattr(socket, "gethostname", lambda: "another-pod")
    assert open_ledger(dataset, results=results, folder=tmp_path / "ledger").mark().id == first.mark().id
    with pytest.raises(LedgerError, match="cannot note which ledger they use"):
        open_ledger(dataset, results=str(tmp_path / "new"), folder=tmp_path / "ledger")
