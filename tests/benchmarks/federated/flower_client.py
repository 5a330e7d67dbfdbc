"""The client app of Flower's engine: one client of a bundle a node; records are read once a process."""

from functools import lru_cache

import numpy as np
import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from tests.benchmarks.federated.bundle import Bundle, loss_of

app = ClientApp()


@lru_cache(maxsize=1)
def bundle_of(path: str, dtype: str) -> Bundle:
    """Returns the bundle, read once in this process."""
    torch.set_num_threads(1)
    return Bundle(path, dtype)


@lru_cache(maxsize=1)
def network_of(path: str, dtype: str) -> torch.nn.Module:
    """Returns the network of this process, made once."""
    return bundle_of(path, dtype).network()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Trains one client for the steps of one round."""
    config = message.content["config"]
    path, dtype = str(config["bundle"]), str(config["dtype"])
    bundle, network = bundle_of(path, dtype), network_of(path, dtype)
    client, number = int(context.node_config["partition-id"]), int(config["server-round"]) - 1
    (places,) = np.nonzero(bundle.cohorts[number] == client)
    if len(places):  # in the round before the clock starts, clients outside the first cohort answer only
        network.load_state_dict(message.content["arrays"].to_torch_state_dict())
        optimizer = torch.optim.SGD(network.parameters(), lr=bundle.learning_rate)
        for rows in bundle.batches(number, int(places[0])):
            optimizer.zero_grad()
            loss_of(network, bundle.x[rows], bundle.y[rows]).backward()
            optimizer.step()
    metrics = {"num-examples": len(bundle.parts[client]), "client": client}
    reply = RecordDict({"arrays": ArrayRecord(network.state_dict()), "metrics": MetricRecord(metrics)})
    return Message(reply, reply_to=message)
