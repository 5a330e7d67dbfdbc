"""Network, data and local training of the app; with the names that Flower's quickstart for PyTorch gives them."""

from collections.abc import Iterable
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    """Digits of 8 × 8 pixels to ten logits, with a batch norm, whose counter is a whole number."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


_read = cache(load_digits)


def _digits(rows: slice) -> TensorDataset:
    x, y = _read(return_X_y=True)
    return TensorDataset(torch.from_numpy(x[rows] / 16).float(), torch.from_numpy(y[rows]))


def load_data(partition_id: int, num_partitions: int, batch_size: int) -> tuple[DataLoader, DataLoader]:
    """Every num_partitions-th of the first 1,000 digits: four fifths to train, the rest to evaluate."""
    mine = _digits(slice(partition_id, 1000, num_partitions))
    cut = len(mine) * 4 // 5
    train, held = (TensorDataset(*mine[rows]) for rows in (slice(cut), slice(cut, None)))
    return DataLoader(train, batch_size=batch_size, shuffle=True), DataLoader(held, batch_size=batch_size)


def load_centralized_dataset() -> DataLoader:
    """The digits that no client has."""
    return DataLoader(_digits(slice(1000, None)), batch_size=128)


def train(net: nn.Module, trainloader: Iterable, epochs: int, lr: float, device: torch.device) -> float:
    """Trains a network; returns the mean loss of its batches."""
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    net.train()
    losses = []
    for _ in range(epochs):
        for x, y in trainloader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x.to(device)), y.to(device))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return sum(losses) / len(losses)


def test(net: nn.Module, testloader: DataLoader, device: torch.device) -> tuple[float, float]:
    """Returns mean loss and accuracy."""
    net.eval()
    loss, right, total = 0.0, 0, 0
    with torch.no_grad():
        for x, y in testloader:
            logits = net(x.to(device)).cpu()
            loss += nn.functional.cross_entropy(logits, y, reduction="sum").item()
            right += int((logits.argmax(1) == y).sum())
            total += len(y)
    return loss / total, right / total
