"""Features are what the last linear layer is given, in whatever pieces they are computed."""

import torch
from torch import nn

from assay.errors import SpecError
from assay.models.batches import MOST
from assay.models.cnn import CNN
from assay.models.mlp import MLP
from assay.models.representation import Represented
from tests.mistakes import refused


def test_the_last_layer_makes_logits_of_the_features() -> None:
    for model, shape in (
        (MLP(hidden=(7, 5)).build((4,), 3, seed=0), (4,)),
        (CNN().build((1, 8, 8), 3, seed=0), (1, 8, 8)),
    ):
        seen = Represented(model)
        x = torch.rand(MOST + 3, *shape)
        last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
        torch.testing.assert_close(last(seen.features(x)), seen.logits(x))
        torch.testing.assert_close(seen.logits(x), model(x))
        assert not last._forward_pre_hooks


def test_features_can_be_differentiated_by_the_records_and_the_weights_are_frozen() -> None:
    model = MLP(hidden=(5,)).build((4,), 3, seed=0)
    x = torch.rand(6, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(Represented(model).features(x).sum(), x)
    expected = ((x @ model[1].weight.T + model[1].bias > 0).float() @ model[1].weight).detach()
    torch.testing.assert_close(gradient, expected)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


def test_a_network_without_a_linear_layer_has_no_features() -> None:
    with refused(SpecError, "model", "Conv1d"):
        Represented(nn.Conv1d(1, 2, 3))
