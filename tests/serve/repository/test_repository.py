"""Versions are added, promoted, rolled back and removed as a whole, and a replica follows while it answers."""

import gc
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assay.errors import SpecError
from assay.store.folder import Store
from assay.study.finished import open_finished
from serve.answers.metadata import index_of
from serve.repository import loaded as following
from serve.repository.entries import MOST_VERSIONS, Entry, Repository, Version
from serve.repository.loaded import Loaded, UnknownModelError, follow
from serve.repository.online import bring_online
from tests.mistakes import refused


def version(name: str, artefact: str = "") -> Version:
    return Version(results="/r", recipe="standard", version=name, artefact=artefact or f"weights {name}")


def entry(*names: str, current: str = "1", previous: str = "") -> Entry:
    return Entry(name="m", versions=tuple(map(version, names)), current=current, previous=previous)


def opened(name: str, one: Version) -> Any:
    if one.version == "broken":
        raise SpecError("its weights are gone", setting="weights")
    if one.version == "damaged":
        raise IndexError("Ada Lovelace")
    return SimpleNamespace(name=name, version=one.version, artefact=one.artefact)


def test_a_rollback_returns_to_the_version_that_answered_before() -> None:
    changed = entry("1", "2").promoted("2")
    assert (changed.current, changed.previous) == ("2", "1")
    back = changed.rolled_back()
    assert (back.current, back.previous) == ("1", "2")
    assert back.promoted("1") == back
    with refused(SpecError, "version", "1"):
        entry("1").rolled_back()


def test_the_version_that_answers_is_not_removed() -> None:
    with refused(SpecError, "version", "1"):
        entry("1", "2").without("1")
    changed = entry("1", "2", current="2", previous="1").without("1")
    assert [one.version for one in changed.versions] == ["2"] and not changed.previous
    with refused(SpecError, "version", "3", ["1", "2"]):
        entry("1", "2").without("3")


def test_a_version_is_one_model_for_ever_and_there_are_not_too_many() -> None:
    held = entry("1")
    assert held.with_version(version("1"), current=True) == held
    with refused(SpecError, "version", "1"):
        held.with_version(version("1", "other weights"), current=True)
    added = held.with_version(version("2"), current=False)
    assert (added.current, added.next_version) == ("1", "3")
    full = entry(*map(str, range(MOST_VERSIONS)), current="0")
    with refused(SpecError, "version", "new", MOST_VERSIONS):
        full.with_version(version("new"), current=False)


def test_a_version_that_was_removed_names_no_other_weights(tmp_path: Path) -> None:
    held = entry("1", "2", current="2").without("1")
    with pytest.raises(SpecError) as caught:
        held.with_version(version("1", "other weights"), current=True)
    for said in ("weights 1", "other weight", "which gives 3"):
        assert said in str(caught.value)
    assert held.with_version(version("1"), current=False).version("1") == version("1")
    repository = Repository(str(tmp_path))
    assert Entry.first("m", version("1"), repository.removed("m")).numbered == 1
    repository.write(held)
    repository.delete("m")
    kept = repository.removed("m")
    assert (kept.numbered, kept.removed) == (2, {"1": "weights 1", "2": "weights 2"})
    for name in ("1", "2"):
        with refused(SpecError, "version", name):
            Entry.first("m", version(name, "other weights"), kept)
    again = Entry.first("m", version("3"), kept)
    assert (again.current, again.next_version, again.removed) == ("3", "4", kept.removed)


def test_weights_that_cannot_be_loaded_leave_those_before_them_under_their_own_hash() -> None:
    """As when a file of the repository was changed by hand: it is refused before."""
    loaded = Loaded()
    loaded.update(entry("1"), opened)

    def unfit(name: str, one: Version) -> Any:
        raise SpecError("it answers otherwise than when it was measured", setting="weights")

    loaded.update(Entry(name="m", versions=(version("1", "other weights"),), current="1"), unfit)
    assert loaded.find("m").artefact == "weights 1"
    (why,) = loaded.failing["m"].values()
    assert "other weight" in why and "weights 1 answer as this version still" in why and "measured" in why


def test_what_was_written_is_read(tmp_path: Path) -> None:
    repository = Repository(str(tmp_path))
    assert repository.names() == [] and repository.read("m") is None
    repository.write(entry("1", "2"))
    assert repository.names() == ["m"] and repository.read("m") == entry("1", "2")
    (tmp_path / "models" / "m.json").write_text('{"name": "m"}')
    with pytest.raises(SpecError, match=r"m\.json"):
        repository.read("m")
    repository.delete("m")
    assert repository.names() == []


def test_a_new_version_answers_once_it_is_loaded_and_a_broken_one_never() -> None:
    loaded = Loaded()
    assert loaded.update(entry("1"), opened)
    first = loaded.find("m")
    assert not loaded.update(entry("1"), opened)
    loaded.update(entry("1", "broken", current="broken", previous="1"), opened)
    assert loaded.find("m") is first and "gone" in loaded.failing["m"]["broken"]
    loaded.update(entry("1", "2", current="2", previous="1"), opened)
    assert loaded.find("m").version == "2" and loaded.find("m", "1") is first
    assert loaded.versions("m") == ["2", "1"]
    loaded.update(entry("2", current="2"), opened)
    with pytest.raises(UnknownModelError, match="loaded: '2'"):
        loaded.find("m", "1")
    with pytest.raises(UnknownModelError, match="this server has 'm'"):
        loaded.find("other")


def test_a_name_of_which_nothing_could_be_loaded_is_listed_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "EVERY", 0.01)
    monkeypatch.setattr(following, "_AGAIN", 0.05)
    repository, loaded, whole = Repository(str(tmp_path)), Loaded(), threading.Event()

    def load(name: str, one: Version) -> Any:
        if not whole.is_set():
            raise OSError("the storage does not answer")
        return opened(name, one)

    repository.write(entry("1"))
    follow(loaded, repository, None, load)
    assert loaded.names == [] and "storage" in loaded.failing["m"]["1"]
    with pytest.raises(UnknownModelError, match="this server has none"):
        loaded.find("m")
    assert [(one.version, one.state) for one in index_of(loaded)] == [("1", "UNAVAILABLE")]
    assert index_of(loaded, ready=True) == []
    whole.set()
    deadline = time.monotonic() + 10
    while "m" not in loaded.names:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not loaded.failing


def test_whatever_is_wrong_with_one_version_another_one_answers() -> None:
    loaded = Loaded()
    loaded.update(entry("damaged", "2", current="damaged"), opened)
    assert loaded.find("m").version == "2" and loaded.versions("m") == ["2"]
    assert loaded.failing["m"]["damaged"] == "it cannot be loaded (IndexError)"


def test_a_number_names_one_version_for_ever() -> None:
    held = entry("1").with_version(version("2"), current=False).without("2")
    assert held.next_version == "3"
    held = held.with_version(version("3"), current=True).without("1")
    assert held.next_version == "4"
    assert entry("first", current="first").next_version == "1"


def test_a_replica_follows_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "EVERY", 0.01)
    repository, loaded = Repository(str(tmp_path)), Loaded()
    repository.write(entry("1"))
    gc.unfreeze()
    follow(loaded, repository, None, opened)
    assert loaded.find("m").version == "1"
    assert gc.get_freeze_count() > 0, "searches for garbage leave out what was loaded"

    def soon(condition: Any) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    answered: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            answered.append(loaded.find("m").version)

    asking = threading.Thread(target=ask)
    asking.start()
    repository.write(entry("1", "2"))
    soon(lambda: "2" in loaded.versions("m"))
    repository.write(entry("1", "2").promoted("2"))
    soon(lambda: loaded.find("m").version == "2")
    repository.write(entry("1", "2").promoted("2").rolled_back())
    soon(lambda: loaded.find("m").version == "1")
    over.set()
    asking.join()
    assert set(answered) == {"1", "2"}
    (tmp_path / "models" / "a.json").write_text("{}")
    repository.write(entry("1", "2").promoted("2"))
    soon(lambda: loaded.find("m").version == "2")
    repository.write(entry("1", "2"))
    soon(lambda: loaded.find("m").version == "1")
    (tmp_path / "models" / "m.json").write_text("not an entry")
    time.sleep(0.1)
    assert loaded.find("m").version == "1", "what is loaded goes on answering"
    repository.delete("m")
    soon(lambda: not loaded.names)


def test_a_model_that_answers_its_own_record_otherwise_than_at_the_start_is_not_ready(store: Store) -> None:
    from serve.model import NoFiniteAnswerError

    online = bring_online(open_finished(store, recipe="standard"), name="standard")
    online.model.check_self()
    weights = next(iter(online.model.finished.model.parameters()))
    weights.data.mul_(-1)
    with pytest.raises(NoFiniteAnswerError, match="otherwise"):
        online.model.check_self()
    weights.data.mul_(float("nan"))
    with pytest.raises(NoFiniteAnswerError, match="no finite answer"):
        online.model.check_self()
