"""Sums gradients over workers while the backward pass still computes the others (Li et al. 2020, arXiv:2006.15704).

For plain training alone: a private sum needs the clipped gradients of all layers before any of it may be sent, and is
summed explicitly.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from assay.privacy.precision import at_least_float32
from assay.training.collective import Collective

BUCKET_BYTES = 25 * 2**20
"""Size of a message, in bytes; a larger parameter is a message of its own."""


class OverlappedSums:
    """Sums a step's gradients in messages of some parameters each, each sent as soon as all of its gradients are there.

    Parameters are taken in reverse order, as a backward pass reaches them. All workers send the messages in one order,
    whatever the order in which gradients arrive, and parameters that a loss does not depend on count as 0. So a worker
    without records, or one whose loss uses other layers, blocks nobody.

    Hooks are on the parameters during this backward pass alone: the gradients of an attack on the inputs send nothing.

    Args:
        parameters: trainable ones, in the order of all gradients.
        collective: the workers.
        bucket_bytes: size of a message; ``BUCKET_BYTES`` by default.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], collective: Collective, *, bucket_bytes: int | None = None
    ) -> None:
        self._parameters, self._collective = list(parameters), collective
        self._buckets = _buckets(self._parameters, BUCKET_BYTES if bucket_bytes is None else bucket_bytes)

    def backward(self, loss: Tensor | None, earlier: Sequence[Tensor]) -> list[Tensor]:
        """Computes the gradient of a loss, and sums it over all workers.

        Args:
            loss: scalar, with its graph; None for a worker without records.
            earlier: gradients of this worker's earlier pieces of the batch, one a parameter, which are added; may be
                empty.

        Returns:
            The sums over all workers, one tensor a parameter, of its shape. Those of float16 and bfloat16 are float32.
        """
        step = _Step(self._parameters, self._buckets, self._collective)
        for place, parameter in enumerate(self._parameters):
            parameter.grad = earlier[place].to(parameter.dtype) if earlier else None
        if loss is not None:
            hooks = [parameter.register_post_accumulate_grad_hook(step.take) for parameter in self._parameters]
            try:
                loss.backward(inputs=self._parameters)
            finally:
                for hook in hooks:
                    hook.remove()
        return step.finish()


class _Step:
    """The messages of one step."""

    def __init__(self, parameters: list[nn.Parameter], buckets: list[list[int]], collective: Collective) -> None:
        self._parameters, self._buckets, self._collective = parameters, buckets, collective
        self._bucket_of: dict[Tensor, int] = {
            parameters[place]: number for number, bucket in enumerate(buckets) for place in bucket
        }
        self._missing = [len(bucket) for bucket in buckets]
        self._sums: list[Tensor | None] = [None] * len(parameters)
        self._waiting: list[Callable[[], None]] = []

    def take(self, parameter: Tensor) -> None:
        """Notes that a parameter has its gradient; sends all messages that are complete and whose turn it is."""
        self._missing[self._bucket_of[parameter]] -= 1
        while len(self._waiting) < len(self._buckets) and not self._missing[len(self._waiting)]:
            self._send()

    def finish(self) -> list[Tensor]:
        """Sends what is left, and waits for all sums."""
        while len(self._waiting) < len(self._buckets):
            self._send()
        for wait in self._waiting:
            wait()
        return [one for one in self._sums if one is not None]

    def _send(self) -> None:
        """Starts the sum of the next message. Its buffer is new, since hooks may keep the gradients of a step."""
        bucket = self._buckets[len(self._waiting)]
        parameters = [self._parameters[place] for place in bucket]
        kind = at_least_float32(parameters[0].detach().new_empty(0))
        flat = kind.new_zeros(sum(parameter.numel() for parameter in parameters))
        parts = flat.split([parameter.numel() for parameter in parameters])
        for place, parameter, part in zip(bucket, parameters, parts, strict=True):
            self._sums[place] = part.view(parameter.shape)
            if parameter.grad is not None:
                self._sums[place].copy_(parameter.grad)  # type: ignore[union-attr]
                parameter.grad = None
        self._waiting.append(self._collective.start(flat))


def _buckets(parameters: list[nn.Parameter], size: int) -> list[list[int]]:
    """Returns the places of the parameters of each message, from the last parameter to the first, one type each."""
    buckets: list[list[int]] = []
    filled = 0
    for place in reversed(range(len(parameters))):
        parameter = parameters[place]
        bytes_ = parameter.numel() * max(parameter.element_size(), 4)
        if not buckets or filled + bytes_ > size or parameters[buckets[-1][0]].dtype != parameter.dtype:
            buckets.append([])
            filled = 0
        buckets[-1].append(place)
        filled += bytes_
    return buckets
