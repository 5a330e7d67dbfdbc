"""Weights and training state are safetensors; nothing is ever unpickled."""

import io
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from assay import seeds
from assay.errors import CheckpointError
from assay.privacy.accounting import rdp_epsilon
from assay.recipes import Privacy, Recipe, Training
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.checkpoints import (
    from_bytes,
    load_weights,
    networks_from_bytes,
    networks_to_bytes,
    read_weights,
    restore_trainer,
    to_bytes,
    trainer_state,
)
from tests.mistakes import refused

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]

RECIPES = {
    "sgd": Recipe(training=Training(epochs=6, batch_size=16, optimizer="sgd", learning_rate=0.05, schedule="cosine")),
    "sgd without momentum": Recipe(
        training=Training(epochs=6, batch_size=16, optimizer="sgd", learning_rate=0.05, momentum=0.0)
    ),
    "adam": Recipe(training=Training(epochs=6, batch_size=16, learning_rate=0.01, weight_decay=1e-3)),
    "private": Recipe(privacy=Privacy(epsilon=8.0), training=Training(epochs=6, batch_size=16)),
    # Examples that stand for nothing: training goes back at the first looks.
    "watched": Recipe(
        objective={"name": "fast", "epsilon": 2.0, "relative_step": 0.01, "watch": {"least_share": 0.99}},
        training=Training(epochs=6, batch_size=16, learning_rate=0.05),
    ),
    "adversarial": Recipe(
        objective={"name": "pgd", "epsilon": 0.3, "steps": 3}, training=Training(epochs=6, batch_size=16)
    ),
    "stopping early": Recipe(
        training=Training(epochs=6, batch_size=16, learning_rate=0.05, early_stopping={"epsilon": 0.4, "patience": 2})
    ),
    "averaged": Recipe(training=Training(epochs=6, batch_size=16, averaging=0.9, records_at_once=5)),
    "private, averaged": Recipe(
        privacy=Privacy(epsilon=8.0), training=Training(epochs=6, batch_size=16, averaging=0.9, records_at_once=5)
    ),
    "watched, averaged": Recipe(
        objective={"name": "fast", "epsilon": 2.0, "relative_step": 0.01, "watch": {"least_share": 0.99}},
        training=Training(epochs=6, batch_size=16, learning_rate=0.05, averaging=0.9),
    ),
    "stopping early, averaged": Recipe(
        training=Training(
            epochs=12, batch_size=16, learning_rate=0.3, averaging=0.5, early_stopping={"epsilon": 0.4, "patience": 2}
        )
    ),
}


def equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_tensors_and_their_description_come_back() -> None:
    shared = torch.arange(6.0).view(2, 3)
    tensors = {"a": shared, "b": shared.T, "c": torch.tensor(3, dtype=torch.int64), "d": torch.zeros(0)}
    about = {"step": 3, "losses": [0.5, float("nan")], "name": "ε"}
    back, told = from_bytes(to_bytes(tensors, about), "here")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) and back[name].dtype == tensors[name].dtype for name in tensors)
    assert (told["step"], told["name"]) == (3, "ε")
    assert str(told["losses"]) == "[0.5, nan]"


def test_equal_content_gives_equal_bytes(network: Network) -> None:
    assert to_bytes(network().state_dict(), {"a": 1}) == to_bytes(network().state_dict(), {"a": 1})


def test_weights_come_back_into_a_model(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(to_bytes(network().state_dict(), {}))
    model = network()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    load_weights(model, read_weights(str(path)), str(path))
    assert equal(model, network())


def test_other_peoples_safetensors_are_read(network: Network, tmp_path: Path) -> None:
    for metadata in (None, {"format": "pt"}):
        save_file(network().state_dict(), tmp_path / "w.safetensors", metadata=metadata)
        tensors, about = from_bytes((tmp_path / "w.safetensors").read_bytes(), "w")
        assert tensors.keys() == network().state_dict().keys()
        assert about == {}


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def saved_by_torch(content: Any, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "pickled",
    [
        lambda trap: saved_by_torch({"weights": torch.zeros(3), "trap": trap}),
        lambda trap: saved_by_torch({"weights": torch.zeros(3), "trap": trap}, zipped=False),
        *(lambda trap, protocol=protocol: pickle.dumps(trap, protocol) for protocol in range(2, 6)),
    ],
)
def test_a_pickle_is_refused_as_one_and_never_executed(
    pickled: Callable[[Trap], bytes], tmp_path: Path, network: Network, blobs: Blobs, blob_bounds: Bounds
) -> None:
    path, mark = tmp_path / "model.pt", tmp_path / "mark"
    path.write_bytes(pickled(Trap(mark)))
    with refused(CheckpointError, "weights", str(path), "safetensors"):
        read_weights(str(path))
    trainer = build_trainer(network(), RECIPES["adam"], *blobs(20), bounds=blob_bounds, seed=0)
    with refused(CheckpointError, "weights", "training state", "safetensors"):
        restore_trainer(trainer, path.read_bytes())
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"x", b"weights, weights, weights", bytes(64), b"\xff" * 64])
def test_what_is_something_else_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(content)
    with refused(CheckpointError, "weights", str(tmp_path / "w"), "safetensors"):
        read_weights(str(tmp_path / "w"))


def test_a_cut_off_file_is_refused(network: Network) -> None:
    whole = to_bytes(network().state_dict(), {})
    for end in (4, 20, len(whole) // 2, len(whole) - 1):
        with refused(CheckpointError, "weights", "cut", "safetensors"):
            from_bytes(whole[:end], "cut")


@pytest.mark.parametrize("name", ["", "."])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / (name or "nowhere"))
    with refused(CheckpointError, "weights", path, "a file"):
        read_weights(path)


def test_what_does_not_fit_is_listed(network: Network) -> None:
    tensors = network().state_dict()
    tensors["extra"] = tensors.pop("3.bias")
    tensors["1.weight"] = torch.zeros(8, 6)
    with pytest.raises(CheckpointError) as caught:
        load_weights(network(), tensors, "w.safetensors")
    said = str(caught.value)
    assert "weights 'w.safetensors' do not fit the model" in said
    assert "missing 3.bias" in said
    assert "unexpected extra" in said
    assert "1.weight has shape (8, 6), the model wants (8, 5)" in said


def test_weights_that_do_not_fit_change_nothing(network: Network) -> None:
    model, tensors = network(), {name: value + 1 for name, value in network().state_dict().items()}
    del tensors["3.bias"]
    with pytest.raises(CheckpointError):
        load_weights(model, tensors, "w")
    assert equal(model, network())


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_restored_trainer_goes_on_bit_for_bit(
    recipe: Recipe, network: Network, blobs: Blobs, blob_bounds: Bounds, given_noise: float
) -> None:
    whole, first, second = (
        build_trainer(network(), recipe, *blobs(50), bounds=blob_bounds, seed=4, validation=blobs(40)) for _ in range(3)
    )
    whole.run()
    names = {hook.name for hook in whole.hooks}
    assert (whole.rollbacks > 1, whole.stopped) == ("overfitting_guard" in names, "early_stopping" in names)
    first.run(2)
    state = trainer_state(first)
    with torch.no_grad():
        for parameter in second.model.parameters():
            parameter.fill_(9.0)
    restore_trainer(second, state)
    assert (second.step, second.losses, second.seconds) == (first.step, first.losses, first.seconds)
    second.run()
    assert equal(second.model, whole.model)
    assert second.losses == whole.losses
    assert second.mechanism == whole.mechanism
    assert (second.notes, second.figures, second.rollbacks) == (whole.notes, whole.figures, whole.rollbacks)


@pytest.mark.parametrize("epochs", [1, 3, 5])
def test_a_run_that_is_killed_and_resumed_has_spent_what_an_undisturbed_one_has_to_the_last_digit(
    blobs: Blobs, network: Network, blob_bounds: Bounds, epochs: int
) -> None:
    """With all that a private recipe may choose, under the noise that its budget demands."""
    recipe = Recipe(
        objective={"name": "pgd", "epsilon": 0.3, "steps": 2},
        data=["jitter"],
        privacy=Privacy(epsilon=3.0, clipping="per_layer", augmentations=3),
        training=Training(epochs=5, batch_size=16, averaging=0.9, records_at_once=7),
    )
    bounds = Bounds(low=blob_bounds.low[None], high=blob_bounds.high[None])
    x, y = blobs(50)
    whole, killed, resumed = (build_trainer(network(), recipe, x[:, None], y, bounds=bounds, seed=4) for _ in range(3))
    whole.run()
    killed.run(epochs)
    restore_trainer(resumed, trainer_state(killed))
    # What was done after the last checkpoint is lost, and done again.
    killed.run(1)
    resumed.run()
    assert whole.mechanism is not None
    assert resumed.mechanism == whole.mechanism
    assert rdp_epsilon(resumed.mechanism) == rdp_epsilon(whole.mechanism)
    assert 2.97 <= rdp_epsilon(resumed.mechanism) <= 3.0
    assert equal(resumed.model, whole.model)
    assert resumed.losses == whole.losses


def test_a_run_that_may_be_released_draws_anew_when_resumed_and_counts_what_may_be_lost(
    blobs: Blobs, network: Network, blob_bounds: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it drew before was drawn by nobody else, and what it draws after comes from no file."""
    drawn: list[int] = []
    entropy = seeds.entropy
    monkeypatch.setattr(seeds, "entropy", lambda: drawn.append(entropy()) or drawn[-1])
    recipe = Recipe(
        objective={"name": "pgd", "epsilon": 0.3, "steps": 2},
        privacy=Privacy(epsilon=3.0, noise="entropy"),
        training=Training(epochs=3, batch_size=16, averaging=0.9),
    )
    whole, killed, resumed, other = (
        build_trainer(network(), recipe, *blobs(50), bounds=blob_bounds, seed=4) for _ in range(4)
    )
    assert len(set(drawn)) == 4
    whole.run()
    killed.run(1)
    state = trainer_state(killed, next_by=8)
    for number in drawn:
        assert not any(said in state for said in (str(number).encode(), f"{number:x}".encode()))
        assert not any(number.to_bytes(16, order) in state for order in ("big", "little"))
    killed.run(1)
    for trainer in (resumed, other):
        restore_trainer(trainer, state)
        assert trainer.step == 4
        trainer.run()
        assert trainer.mechanism is not None and whole.mechanism is not None
        assert trainer.mechanism == replace(whole.mechanism, steps=12 + 4)
        assert rdp_epsilon(trainer.mechanism) > rdp_epsilon(whole.mechanism)
    assert not equal(resumed.model, other.model)


@pytest.mark.parametrize("name", ["averaged", "private, averaged", "stopping early, averaged"])
def test_a_finished_trainer_comes_back_with_the_average(
    name: str, network: Network, blobs: Blobs, blob_bounds: Bounds, given_noise: float
) -> None:
    one, other = (
        build_trainer(network(), RECIPES[name], *blobs(50), bounds=blob_bounds, seed=4, validation=blobs(40))
        for _ in "ab"
    )
    one.run()
    restore_trainer(other, trainer_state(one))
    assert other.finished
    assert equal(other.model, one.model)
    other.run()
    assert equal(other.model, one.model)


def test_the_state_of_a_trainer_that_has_not_begun_comes_back(
    network: Network, blobs: Blobs, blob_bounds: Bounds
) -> None:
    one, other = (build_trainer(network(), RECIPES["sgd"], *blobs(50), bounds=blob_bounds, seed=4) for _ in range(2))
    restore_trainer(other, trainer_state(one))
    one.run()
    other.run()
    assert equal(one.model, other.model)


def test_the_state_of_another_model_is_refused(network: Network, blobs: Blobs, blob_bounds: Bounds) -> None:
    state = trainer_state(build_trainer(nn.Linear(5, 2), RECIPES["adam"], *blobs(20), bounds=blob_bounds, seed=0))
    with refused(CheckpointError, "weights"):
        restore_trainer(build_trainer(network(), RECIPES["adam"], *blobs(20), bounds=blob_bounds, seed=0), state)


def test_bare_weights_are_no_training_state(network: Network, blobs: Blobs, blob_bounds: Bounds) -> None:
    with refused(CheckpointError, "training state"):
        restore_trainer(
            build_trainer(network(), RECIPES["adam"], *blobs(20), bounds=blob_bounds, seed=0),
            to_bytes({f"model.{name}": value for name, value in network().state_dict().items()}, {}),
        )


def test_networks_of_single_clients_come_back_beside_the_shared_one(network: Network) -> None:
    shared, own = network().state_dict(), {name: tensor + 1 for name, tensor in network().state_dict().items()}
    third = {name: tensor - 1 for name, tensor in shared.items()}
    content = networks_to_bytes({"": shared, "A": own, "A/B": third}, {"seconds": 1.5})
    networks, about = networks_from_bytes(content, "here")
    assert about == {"seconds": 1.5}
    assert networks.keys() == {"", "A", "A/B"}
    for found, expected in ((networks[""], shared), (networks["A"], own), (networks["A/B"], third)):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)


def test_one_network_is_stored_as_it_always_was(network: Network) -> None:
    weights = network().state_dict()
    content = networks_to_bytes({"": weights}, {"seconds": 1.5})
    assert content == to_bytes(weights, {"seconds": 1.5})
    assert networks_from_bytes(content, "here")[0].keys() == {""}
