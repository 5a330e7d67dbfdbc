"""What is no part of the loss sees the network as it answers, and leaves it as it learns."""

import pytest
from torch import nn

from assay.training.modes import eval_mode_except_rnn


def network() -> nn.Sequential:
    """A frozen batch norm among layers that learn."""
    layers = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.Dropout(0.5)), nn.BatchNorm1d(3), nn.LSTM(3, 2))
    layers[0].eval()
    return layers


def modes(model: nn.Module) -> list[bool]:
    return [layer.training for layer in model.modules()]


def test_all_but_recurrent_layers_answer_and_every_mode_comes_back() -> None:
    model = network()
    before = modes(model)
    with eval_mode_except_rnn(model):
        assert {type(layer).__name__ for layer in model.modules() if layer.training} == {"LSTM"}
    assert modes(model) == before == [True, False, True, True, True, True]


def test_modes_come_back_from_an_error_too() -> None:
    model = network()
    before = modes(model)
    with pytest.raises(ZeroDivisionError), eval_mode_except_rnn(model):
        raise ZeroDivisionError
    assert modes(model) == before
