"""ClientApp of the digits."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from digits_app.task import Net, load_data, test, train

app = ClientApp()
CPU = torch.device("cpu")


def _received(message: Message) -> Net:
    net = Net()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    return net


def _data(context: Context):
    node = context.node_config
    return load_data(node["partition-id"], node["num-partitions"], context.run_config["batch-size"])


@app.train()
def fit(message: Message, context: Context) -> Message:
    net, (records, _) = _received(message), _data(context)
    loss = train(net, records, context.run_config["local-epochs"], message.content["config"]["lr"], CPU)
    metrics = MetricRecord({"loss": loss, "num-examples": len(records.dataset)})
    return Message(RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics}), reply_to=message)


@app.evaluate()
def measure(message: Message, context: Context) -> Message:
    net, (_, held) = _received(message), _data(context)
    loss, accuracy = test(net, held, CPU)
    metrics = MetricRecord({"loss": loss, "accuracy": accuracy, "num-examples": len(held.dataset)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
