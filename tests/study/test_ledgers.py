"""A study finds the ledger again that it has used, from whatever folder or machine, or is refused."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.data.base import Dataset
from assay.errors import LedgerError
from assay.privacy.ledger import Ledger
from assay.study.ledgers import ledger_folder, open_ledger
from assay.study.plan import load_datasets
from assay.study.spec import Study
from assay.study.store import Store


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
