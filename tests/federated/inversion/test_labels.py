"""The last layer tells labels: of one record always, of several mostly."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from assay.data.base import Dataset
from assay.errors import UserError
from assay.federated.inversion.labels import infer_labels
from assay.federated.inversion.observed import ObservedUpdate, gradient_of_step
from assay.training.loop import Trainer

Client = Callable[..., Trainer]


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
@pytest.mark.parametrize("epochs", [0, 20])
def test_the_label_of_one_record_is_always_right(client: Client, digits: Dataset, kind: str, epochs: int) -> None:
    trainer = client(kind)
    trainer.run(epochs) if epochs else None
    found = [int(infer_labels(trainer.model, gradient_of_step(trainer, [row]), classes=10)) for row in range(20)]
    assert found == digits.y[:20].tolist()


def test_labels_of_several_records_may_repeat(client: Client, digits: Dataset) -> None:
    trainer = client()
    rows = [0, 10, 20, 1, 2]
    assert digits.y[rows].tolist() == [0, 0, 0, 1, 2]
    assert infer_labels(trainer.model, gradient_of_step(trainer, rows), classes=10).tolist() == [0, 0, 0, 1, 2]


def test_without_a_bias_the_rows_of_the_weights_tell_it() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5, bias=False))
    for label in range(5):
        loss = nn.functional.cross_entropy(network(torch.rand(1, 4)), torch.tensor([label]))
        update = ObservedUpdate(gradients=torch.autograd.grad(loss, list(network.parameters())), records=1)
        assert infer_labels(network, update, classes=5).tolist() == [label]


def test_a_network_without_such_a_layer_is_refused(client: Client) -> None:
    trainer = client()
    with pytest.raises(UserError, match="state labels: known"):
        infer_labels(trainer.model, gradient_of_step(trainer, [0]), classes=11)
