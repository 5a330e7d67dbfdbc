"""Client states: in memory while few and small, in files otherwise, and the same after both."""

from pathlib import Path

import pytest
import torch

from assay.errors import CheckpointError
from assay.federated.resume import RoundFolder
from assay.federated.state import ClientState, ClientStates


def state(number: int, size: int = 10) -> ClientState:
    return ClientState(tensors={"residual": torch.full((size,), float(number))}, values={"step": number})


def same(one: ClientState | None, other: ClientState) -> bool:
    assert one is not None
    return one.values == other.values and all(torch.equal(one.tensors[n], t) for n, t in other.tensors.items())


def test_a_state_survives_its_file() -> None:
    assert same(ClientState.of(state(3).to_bytes(), "file"), state(3))


@pytest.mark.parametrize("in_memory", [1 << 20, 0, 100])
def test_many_states_move_to_files_and_are_the_same(tmp_path: Path, in_memory: int) -> None:
    states = ClientStates(tmp_path, in_memory=in_memory)
    states.put({number: state(number) for number in range(1, 20)})
    states.put({4: state(44)})
    assert len(states) == 19
    assert all(same(states.get(number), state(44 if number == 4 else number)) for number in range(1, 20))
    assert states.get(20) is None
    assert 20 not in states
    assert 4 in states


def test_memory_is_bounded(tmp_path: Path) -> None:
    states = ClientStates(tmp_path, in_memory=1000)
    states.put({number: state(number) for number in range(1, 200)})
    assert states._bytes <= 1000


def test_a_round_on_disk_is_the_last_whole_one(tmp_path: Path) -> None:
    states, folder = ClientStates(tmp_path), RoundFolder(tmp_path, "key")
    assert folder.load(ClientStates(tmp_path)).number == 0
    states.put({1: state(1), 2: state(2)})
    folder.save(1, tensors={"weights": torch.ones(3)}, values={"a": 1}, states=states)
    states.put({2: state(22)})
    states.save()  # as if the process died after the states and before the round
    other = ClientStates(tmp_path)
    loaded = folder.load(other)
    assert (loaded.number, loaded.values, loaded.lost) == (1, {"a": 1}, ())
    assert same(other.get(2), state(2))
    folder.save(2, tensors={"weights": torch.ones(3)}, values={}, states=states)
    again = ClientStates(tmp_path)
    assert folder.load(again).number == 2
    assert same(again.get(2), state(22))
    assert same(again.get(1), state(1))


def test_a_round_of_another_training_is_not_continued(tmp_path: Path) -> None:
    RoundFolder(tmp_path, "one").save(1, tensors={}, values={}, states=ClientStates(tmp_path))
    assert RoundFolder(tmp_path, "other").load(ClientStates(tmp_path)).number == 0


def test_a_damaged_file_is_not_continued_and_ends_a_training_whose_noise_is_spent(tmp_path: Path) -> None:
    folder = RoundFolder(tmp_path, "one")
    folder.save(1, tensors={"w": torch.ones(100)}, values={}, states=ClientStates(tmp_path))
    (path,) = tmp_path.glob("round*")
    path.write_bytes(path.read_bytes()[:-20])
    assert folder.load(ClientStates(tmp_path)).number == 0
    folder.begin(2, [1])
    with pytest.raises(CheckpointError, match="what clients have spent is unknown"):
        folder.load(ClientStates(tmp_path))


def test_clients_of_a_round_that_was_begun_and_lost_are_named_once_for_each_try(tmp_path: Path) -> None:
    folder = RoundFolder(tmp_path, "key")
    folder.begin(1, [1, 2])
    assert folder.load(ClientStates(tmp_path)).lost == (1, 2)
    folder.begin(1, [1, 2])
    assert folder.load(ClientStates(tmp_path)).lost == (1, 2, 1, 2)
    assert RoundFolder(tmp_path, "other").load(ClientStates(tmp_path)).lost == ()
    folder.save(1, tensors={}, values={}, states=ClientStates(tmp_path))
    assert folder.load(ClientStates(tmp_path)).lost == ()
    folder.begin(2, [2, 3])
    assert folder.load(ClientStates(tmp_path)).lost == (2, 3)
