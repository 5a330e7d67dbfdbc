"""Where this process computes, and how a GPU does so: exactly where a figure rests on it, and always repeatably.

By itself PyTorch rounds what enters a convolution or a recurrent layer on a GPU to the eleven bits of TF32, and cuDNN
may sum in an order that changes from run to run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def device() -> torch.device:
    """The GPU that this process was given, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def repeatable(*, tf32: bool | None = None) -> Iterator[None]:
    """In here cuDNN gives the same bits whenever it is asked the same; afterwards it is set as it was.

    Args:
        tf32: whether convolutions and recurrent layers may round to TF32, PyTorch's own setting; None leaves it as it
            is. On a GPU that has it a residual network trains about twice as fast so. A model is judged without: its
            certificates are about float32, and its answers are then those of a CPU, but for the last digits.
    """
    if not torch.cuda.is_available():
        yield
        return
    backends: Any = torch.backends
    cudnn = backends.cudnn
    wanted: list[tuple[Any, str, Any]] = [(cudnn, "deterministic", True), (cudnn, "benchmark", False)]
    if tf32 is not None:
        short = "tf32" if tf32 else "ieee"
        wanted += [(place, "fp32_precision", short) for place in (cudnn.conv, cudnn.rnn)]
        wanted += [(backends.cuda.matmul, "fp32_precision", "ieee")]
    given = [getattr(place, name) for place, name, _ in wanted]
    try:
        for place, name, value in wanted:
            setattr(place, name, value)
        yield
    finally:
        for (place, name, _), value in zip(wanted, given, strict=True):
            setattr(place, name, value)
