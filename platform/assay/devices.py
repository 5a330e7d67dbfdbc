"""The device of this process, and settings under which a GPU computes exactly and repeatably.

By default PyTorch rounds the inputs of a convolution or a recurrent layer on a GPU to the eleven bits of TF32, and
cuDNN may sum in an order that changes from run to run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class _State:
    """State of this process."""

    cpu_only = False


def device() -> torch.device:
    """Returns the GPU of this process, or the CPU where there is none, or within ``on_cpu``.

    Returns:
        The device.
    """
    return torch.device("cuda" if torch.cuda.is_available() and not _State.cpu_only else "cpu")


@contextmanager
def on_cpu(wanted: bool = True) -> Iterator[None]:
    """Makes ``device`` return the CPU within the block, in all threads of this process.

    Args:
        wanted: False changes nothing.

    Returns:
        Context manager.
    """
    before = _State.cpu_only
    _State.cpu_only = before or wanted
    try:
        yield
    finally:
        _State.cpu_only = before


@contextmanager
def repeatable(*, tf32: bool | None = None) -> Iterator[None]:
    """Makes cuDNN deterministic within the block; restores its settings afterwards.

    Args:
        tf32: whether convolutions and recurrent layers may round to TF32; None keeps PyTorch's setting. With TF32 a
            residual network trains about twice as fast on a GPU that supports it. Models are evaluated without it:
            certificates hold for float32, and the outputs then agree with those of a CPU up to the last digits.

    Returns:
        Context manager.
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
