"""A recurrent layer of torch lets a gradient through on a GPU as it answers, and is what it was afterwards."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from assay.models import recurrent
from assay.models.recurrent import differentiable

KINDS = pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrent, "_runs_on_cudnn", lambda layer: True)


class Noting(nn.Module):
    """Notes in which mode, and with which dropout, its layer answers."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = kind(4, 5, num_layers=2, dropout=0.5, batch_first=True)
        self.seen: list[tuple[bool, float]] = []
        self.layer.register_forward_pre_hook(lambda layer, _: self.seen.append((layer.training, layer.dropout)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0][:, -1]


@KINDS
def test_it_answers_in_training_mode_and_drops_nothing(kind: type[nn.RNNBase]) -> None:
    model, x = Noting(kind).eval(), torch.randn(3, 6, 4)
    answer = model(x)
    with differentiable(model), differentiable(model):
        copied = copy.deepcopy(model)
        torch.testing.assert_close(copied(x), answer)
        torch.testing.assert_close(model(x), answer)
        assert (model.layer.training, model.layer.dropout) == (False, 0.5)
        assert (copied.layer.training, copied.layer.dropout) == (False, 0.5)
        with torch.no_grad():
            model(x)
    model(x)
    # Its own hook was there first: what it saw was before each answer.
    assert set(model.seen) == {(False, 0.5)}
    assert len(model.layer._forward_pre_hooks) == 1
    assert not model.layer._forward_hooks


@KINDS
def test_the_layer_itself_is_asked_so(kind: type[nn.RNNBase], monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen, own = Noting(kind), [], kind.forward

    def forward(layer: nn.RNNBase, *given: Tensor) -> object:
        seen.append((layer.training, layer.dropout))
        return own(layer, *given)

    monkeypatch.setattr(kind, "forward", forward)
    x = torch.randn(3, 6, 4)
    with differentiable(model):
        model.train()(x)
        model.eval()(x)
        with torch.no_grad():
            model(x)
    model(x)
    assert seen == [(True, 0.5), (True, 0.0), (False, 0.5), (False, 0.5)]


def test_a_layer_that_fails_is_left_as_it_was() -> None:
    model = nn.LSTM(4, 5, num_layers=2, dropout=0.5).eval()
    with differentiable(model), pytest.raises(RuntimeError):
        model(torch.randn(3, 2, 7))
    assert (model.training, model.dropout) == (False, 0.5)


def test_a_network_travels_to_workers_meanwhile() -> None:
    model = nn.Sequential(nn.LSTM(4, 5, batch_first=True)).eval()
    x = torch.randn(3, 6, 4)
    with differentiable(model):
        torch.testing.assert_close(pickle.loads(pickle.dumps(model))(x)[0], model(x)[0])
