"""Messages keep their values when they are pickled, and their tensors belong to who receives them."""

import pickle
from dataclasses import replace

import torch

from assay.federated.messages import Assignment, Replies, Round
from assay.federated.state import ClientState


def test_a_message_is_the_same_after_it_was_sent() -> None:
    state = ClientState(tensors={"a": torch.arange(3.0), "b": torch.ones(2, dtype=torch.bfloat16)}, values={"step": 4})
    replies = Replies(
        sums={"update": (torch.arange(5), 2.5)},
        states={3: state},
        singles={3: torch.randn(4)[::2]},
        buffers={3: {"count": torch.tensor(7)}},
        counters=[1, 2],
    )
    found: Replies = pickle.loads(pickle.dumps(replies))
    assert torch.equal(found.sums["update"][0], torch.arange(5)) and found.sums["update"][1] == 2.5
    assert torch.equal(found.singles[3], replies.singles[3]) and found.counters == [1, 2]
    assert torch.equal(found.buffers[3]["count"], torch.tensor(7))
    kept = found.states[3]
    assert kept.values == {"step": 4}
    assert all(kept.tensors[name].dtype == tensor.dtype for name, tensor in state.tensors.items())
    assert all(torch.equal(kept.tensors[name], tensor) for name, tensor in state.tensors.items())


def test_what_was_received_may_be_changed() -> None:
    order = Round(
        number=1, weights=torch.ones(3), buffers={}, sent={"c": torch.ones(2)}, scales={}, deadline=1.0, single=False
    )
    found: Round = pickle.loads(pickle.dumps(order))
    found.weights.add_(1)
    found.sent["c"].add_(1)
    assert torch.equal(order.weights, torch.ones(3))
    assert replace(found, number=2).number == 2
    assert pickle.loads(pickle.dumps(Assignment(client=2, state=None))).client == 2
