"""Tables of coalitions: the answers of the network itself, and only where its layers say what depends on what."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import assay.explain.coalition_tables as tables
import assay.explain.coalitions as module
from assay.explain.coalition_tables import coalition_tables
from assay.explain.coalitions import Game
from assay.explain.groups import grouped
from assay.explain.local_layers import local_split
from assay.explain.methods.shapley import all_answers
from assay.explain.scalars import log_odds
from assay.models.cnn import CNN
from tests.explaining import reference

DOUBLE = torch.float64


class Shifted(nn.ReLU):
    """Reads the whole record, which its type does not say."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x.mean()


def image_network(*further: nn.Module, head: tuple[nn.Module, ...] | None = None) -> nn.Sequential:
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), *further]
    with torch.no_grad():
        width = nn.Sequential(*layers, nn.Flatten())(torch.zeros(2, 2, 12, 12)).shape[1]
    end = (nn.Flatten(), nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, 3)) if head is None else head
    return nn.Sequential(nn.Sequential(*layers), *end)


LOCAL: dict[str, Callable[[], nn.Module]] = {
    "one convolution": image_network,
    "a stride": lambda: image_network(nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.SiLU()),
    "a dilation, groups, a wide padding": lambda: image_network(nn.Conv2d(4, 4, 2, padding=2, dilation=2, groups=2)),
    "padding by name": lambda: image_network(nn.Conv2d(4, 4, 3, padding="same")),
    "maxima": lambda: image_network(nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)),
    "means": lambda: image_network(nn.AvgPool2d(2), nn.BatchNorm2d(4)),
    "a global mean": lambda: image_network(head=(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))),
    "nothing behind the linear layer": lambda: image_network(head=(nn.Flatten(), nn.Linear(576, 3, bias=False))),
    "dropout": lambda: nn.Sequential(image_network(), nn.Dropout(0.5)),
}


def game(model: nn.Module, shape: tuple[int, ...], modality: str, versions: int = 1, records: int = 2) -> Game:
    torch.manual_seed(0)
    model = model.to(DOUBLE).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            layer.running_mean += torch.rand(4)
    x = torch.randn(records, *shape, dtype=DOUBLE)
    groups = grouped(x, replace(reference(x), modality=modality), 9)
    return Game(
        model=model,
        x=x,
        target=torch.arange(records) % 3,
        absent=torch.randn(1, versions, *shape, dtype=DOUBLE).expand(records, versions, *shape),
        groups=groups,
        scalar=log_odds,
    )


def plain(played: Game, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    with monkeypatch.context() as patch:
        patch.setattr(module, "coalition_tables", lambda *_: None)
        return all_answers(played)


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("versions", [1, 3])
def test_answers_are_those_of_the_network(name: str, versions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    played = game(LOCAL[name](), (2, 12, 12), "image", versions)
    assert coalition_tables(played.model, played.groups[0], 512) is not None
    torch.testing.assert_close(all_answers(played), plain(played, monkeypatch), rtol=1e-11, atol=1e-11)


def test_tables_and_signals_have_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_WIDE", 1)
    torch.manual_seed(1)
    signals = nn.Sequential(nn.Conv1d(2, 3, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2), nn.AvgPool1d(2))
    signals.append(nn.AdaptiveAvgPool1d(1)).append(nn.Flatten()).append(nn.Linear(3, 4)).append(nn.Linear(4, 3))
    columns = nn.Sequential(nn.Linear(11, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3))
    for model, shape, modality in ((signals, (2, 45), "signal"), (columns, (11,), "tabular")):
        played = game(model, shape, modality)
        assert coalition_tables(played.model, played.groups[0], 512) is not None
        torch.testing.assert_close(all_answers(played), plain(played, monkeypatch), rtol=1e-11, atol=1e-11)


def test_entries_without_a_group_stay_those_of_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    played = game(image_network(), (2, 12, 12), "image")
    groups = played.groups[:1].clone()
    groups[..., :5, 3:] = -1
    groups[:, 1, 8:] = 3  # another group in one channel
    played = replace(played, groups=groups.expand_as(played.x))
    assert coalition_tables(played.model, groups[0], 512) is not None
    torch.testing.assert_close(all_answers(played), plain(played, monkeypatch), rtol=1e-11, atol=1e-11)


def test_no_entry_changes_with_a_group_on_which_it_is_said_not_to_depend() -> None:
    for name, make in LOCAL.items():
        torch.manual_seed(2)
        model = make().eval()
        x = torch.randn(1, 2, 12, 12)
        groups = grouped(x, replace(reference(x), modality="image"), 9)
        split = local_split(model, groups[0])
        assert split is not None, name
        for group in range(9):
            changed = split.local(x) != split.local(torch.where(groups == group, torch.randn_like(x), x))
            assert not bool((changed.flatten() & ~split.depends[group]).any()), name


def hooked() -> nn.Module:
    model = image_network()
    model[0][1].register_forward_hook(lambda layer, given, out: out + out.mean())
    return model


def own_forward() -> nn.Module:
    model = image_network()
    model[0][1].forward = lambda x: x.relu() + x.mean()  # type: ignore[method-assign]
    return model


REFUSED: dict[str, Callable[[], nn.Module]] = {
    "a subclass": lambda: image_network(Shifted()),
    "a hook": hooked,
    "a forward of its own": own_forward,
    "a norm over places": lambda: image_network(nn.GroupNorm(2, 4)),
    "padding from the other side": lambda: image_network(nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular")),
    "batch statistics": lambda: image_network(nn.BatchNorm2d(4, track_running_stats=False)),
    "a flat part": lambda: image_network(head=(nn.Flatten(2), nn.Linear(144, 3), nn.Flatten())),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_may_do_something_else_is_asked_itself(name: str) -> None:
    played = game(REFUSED[name](), (2, 12, 12), "image")
    assert local_split(played.model, played.groups[0]) is None


def test_a_layer_in_training_mode_is_not_taken() -> None:
    played = game(image_network(), (2, 12, 12), "image")
    played.model[0][1].train()  # type: ignore[index]
    assert local_split(played.model, played.groups[0]) is None


def test_wide_receptive_fields_and_few_entries_or_coalitions_have_no_tables() -> None:
    deep = image_network(*(nn.Conv2d(4, 4, 9, padding=4) for _ in range(2)))
    played = game(deep, (2, 12, 12), "image")
    assert local_split(played.model, played.groups[0]) is not None
    assert coalition_tables(played.model, played.groups[0], 512) is None
    small = game(nn.Sequential(nn.Linear(12, 64), nn.Linear(64, 3)), (12,), "tabular")
    assert coalition_tables(small.model, small.groups[0], 512) is None
    near = game(image_network(), (2, 12, 12), "image")
    assert coalition_tables(near.model, near.groups[0], 32) is None


def test_a_record_has_the_same_answers_in_any_batch() -> None:
    model = CNN(channels=(4, 8)).build((1, 28, 28), 3, seed=0)
    played = game(model, (1, 28, 28), "image", records=5)
    assert coalition_tables(played.model, played.groups[0], 512) is not None
    alone = torch.cat([all_answers(played.of(torch.tensor([row]))) for row in range(5)])
    assert torch.equal(all_answers(played), alone)
