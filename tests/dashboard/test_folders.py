"""Folders of results are found wherever they lie below the named ones."""

from pathlib import Path

import pytest

from assay.dashboard import folders
from assay.dashboard.folders import Folder, find_folders
from assay.errors import StorageError, UserError
from tests.mistakes import refused


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two studies, a sweep a level deeper, a folder without results, and what lies within results."""
    for name in ("a/trials", "b/trials", "b/artefacts/trials", "sweeps/one/index", "empty/deep", ".hidden/trials"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def test_all_folders_are_found_once(results: Path) -> None:
    found = find_folders([str(results), str(results / "a")])
    assert [folder.name for folder in found] == ["a", "b", "sweeps/one"]


def test_a_folder_of_results_itself_is_found(results: Path) -> None:
    assert find_folders([str(results / "a")]) == [Folder("a", str(results / "a"))]


def test_two_folders_of_one_name_are_told_apart(results: Path) -> None:
    (results / "sweeps" / "a" / "trials").mkdir(parents=True)
    found = find_folders([str(results / "a"), str(results / "sweeps" / "a")])
    assert [folder.name for folder in found] == [str(results / "a"), str(results / "sweeps" / "a")]


def test_a_circle_of_links_ends(results: Path) -> None:
    (results / "a" / "loop").symlink_to(results)
    assert len(find_folders([str(results)])) == 3


def test_a_folder_without_results_has_none_yet(tmp_path: Path) -> None:
    assert find_folders([str(tmp_path)]) == []


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with refused(StorageError, "--results", str(tmp_path / "no")):
        find_folders([str(tmp_path / "no")])


def test_too_many_folders_are_refused(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MOST", 2)
    with refused(UserError, "--results", 3, 2):
        find_folders([str(results)])


def test_an_object_store_is_searched_one_level_deep(results: Path) -> None:
    found = find_folders([f"file://{results}"])
    assert [folder.name for folder in found] == ["a", "b"]
