"""Federated averaging as a plain loop over the clients: the floor of all engines, and the reference of the weights."""

import time

import torch
from torch import Tensor

from tests.benchmarks.federated.bundle import Bundle, arguments, finish, loss_of


def train(bundle: Bundle, rounds: int | None = None) -> dict[str, Tensor]:
    """Returns the weights after all rounds, or after the first ``rounds``."""
    network = bundle.network()
    parameters = list(network.parameters())
    shared = [parameter.detach().clone() for parameter in parameters]
    if bundle.is_evaluated(0):
        bundle.evaluate(network)
    for number in range(bundle.rounds if rounds is None else rounds):
        total = [torch.zeros_like(weight) for weight in shared]
        records = 0
        for place, client in enumerate(bundle.cohorts[number]):
            with torch.no_grad():
                torch._foreach_copy_(parameters, shared)
            for rows in bundle.batches(number, place):
                gradients = torch.autograd.grad(loss_of(network, bundle.x[rows], bundle.y[rows]), parameters)
                with torch.no_grad():
                    torch._foreach_add_(parameters, gradients, alpha=-bundle.learning_rate)
            size = len(bundle.parts[client])
            with torch.no_grad():
                torch._foreach_add_(total, parameters, alpha=size)
            records += size
        shared = torch._foreach_div(total, records)
        if bundle.is_evaluated(number + 1):
            with torch.no_grad():
                torch._foreach_copy_(parameters, shared)
            bundle.evaluate(network)
    with torch.no_grad():
        torch._foreach_copy_(parameters, shared)
    return network.state_dict()


def main() -> None:
    asked = arguments()
    torch.set_num_threads(1)
    began = time.perf_counter()
    bundle = Bundle(asked.bundle, asked.dtype)
    train(bundle, rounds=1)
    started = time.perf_counter()
    weights = train(bundle)
    finish(asked, weights, seconds=time.perf_counter() - started, setup=started - began, crossed=0)


if __name__ == "__main__":
    main()
