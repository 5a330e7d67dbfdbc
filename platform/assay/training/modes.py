"""The mode of a network in training while it computes something that is not part of its loss."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode_except_rnn(model: nn.Module) -> Iterator[None]:
    """Switches a network to evaluation mode within the context, except its recurrent layers.

    All modes are restored after it. Batch norm does not update its statistics and dropout is off. Recurrent layers stay
    as they are: in evaluation mode cuDNN computes no gradient through them, and without dropout of their own their
    output is the same in both modes.

    Args:
        model: the network.
    """
    layers = [layer for layer in model.modules() if layer.training and not isinstance(layer, nn.RNNBase)]
    for layer in layers:
        layer.training = False
    try:
        yield
    finally:
        for layer in layers:
            layer.training = True
