"""Checks of Flower's reply messages, by the rules of ``reports``, before a strategy sees them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from flwr.app import ArrayRecord, RecordDict

from assay.federated.reports import Expected, capped_count, fault_in_arrays, fault_in_count

Layout = Literal["sent", "free"]
_OLDER = {"fitres.parameters": "fitins.parameters"}
"""Under which name clients of Flower's older API were sent what they answer under another."""


@dataclass(kw_only=True)
class ReplyCheck:
    """Check of every reply that carries arrays or a number of examples.

    Args:
        layout: ``sent`` demands the keys, shapes and types of the arrays that a client was sent under the same name;
            ``free`` is for apps that answer with others, and checks values alone.
        counts: records of each partition that the server knows of; claims are capped at them.
        count_key: metric that weights the average, as the strategy's ``weighted_by_key``.
    """

    layout: Layout = "sent"
    counts: Mapping[int, int] = field(default_factory=dict)
    count_key: str = "num-examples"
    flags: list[str] = field(default_factory=list)
    """Claims that were corrected."""
    _first: dict[tuple[str, str], str] = field(default_factory=dict)
    """Type of each array when it was first sent."""

    def sent(self, content: RecordDict) -> None:
        """Notes the types of the arrays of a message.

        Flower's average turns whole numbers, such as the batches that a batch norm has seen, to float64. Clients answer
        with whole numbers again, which is no fault.

        Args:
            content: of the message.
        """
        for name, record in content.array_records.items():
            for key, array in record.items():
                self._first.setdefault((name, key), array.dtype)

    def fault(self, content: RecordDict, reply: RecordDict, partition: int) -> str:
        """Checks a reply, and caps the number of examples that it claims.

        Args:
            content: of the message to which the client replies.
            reply: content of the reply, whose claims are changed where they are too high.
            partition: of the client.

        Returns:
            The fault for which the reply must be refused, or an empty text.
        """
        for name, record in reply.array_records.items():
            arrays, fault = _decoded(record)
            if not fault:
                fault = fault_in_arrays(arrays, self._expected(_OLDER.get(name, name), content))
            if fault:
                return f"record {name!r} {fault}"
        for name, metrics in reply.metric_records.items():
            if self.count_key not in metrics:
                continue
            claimed = metrics[self.count_key]
            if fault := fault_in_count(claimed):
                return f"record {name!r} {fault}"
            count, corrected = capped_count(claimed, self.counts.get(partition))
            if corrected:
                metrics[self.count_key] = count
                self.flags.append(f"partition {partition} claimed {claimed} examples and has {count}; {count} counted")
        return ""

    def _expected(self, name: str, content: RecordDict) -> dict[str, Expected] | None:
        """Returns the layout of the arrays that were sent under a name; None where it is not demanded."""
        if self.layout == "free" or name not in content.array_records:
            return None
        sent, fault = _decoded(content.array_records[name])
        if fault:
            return None
        return {
            key: Expected(
                shape=None if array.dtype == np.uint8 and array.ndim == 1 else array.shape,
                dtypes=frozenset({str(array.dtype), self._first.get((name, key), "") or str(array.dtype)}),
            )
            for key, array in sent.items()
        }


def _decoded(record: ArrayRecord) -> tuple[dict[str, np.ndarray], str]:
    """Returns the arrays of a record as they are, not as the record describes them."""
    arrays = {}
    for key, array in record.items():
        try:
            arrays[key] = array.numpy()
        except Exception as error:
            return {}, f"{key!r} cannot be read: {error}"
        described = (array.dtype, tuple(array.shape))
        if array.dtype and described != (str(arrays[key].dtype), arrays[key].shape):
            return {}, f"{key!r} is described as {array.dtype} {tuple(array.shape)}, but is another array"
    return arrays, ""
