"""The mode in which a network in training answers what is no part of its loss."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def eval_mode_except_rnn(model: nn.Module) -> Iterator[None]:
    """In here batch norm does not learn and nothing is dropped; afterwards each layer is in the mode it was in.

    Recurrent layers stay as they are: cuDNN takes no gradient through one in evaluation mode, and without dropout of
    its own it answers the same in both.
    """
    learning = [layer for layer in model.modules() if layer.training and not isinstance(layer, nn.RNNBase)]
    for layer in learning:
        layer.training = False
    try:
        yield
    finally:
        for layer in learning:
            layer.training = True
