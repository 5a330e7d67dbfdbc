"""Do the values of a map depend on answers at one baseline, where there are no data?

Integrated gradients follow lines that all begin at the baseline. A network that is changed in a small neighbourhood of
it alone, without any change of an answer to a record, has any map. Lines that begin at other places do not meet this
neighbourhood. So the map is compared with the mean of the same values counted from the baseline moved by the spread of
the data: from the mean of the records, these are records themselves, and it is compared with expected gradients. An
answer to a record cannot be changed unnoticed. For a linear network both are equal but for the choice of records.
"""

from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional

from assay.explain.methods.expected_gradients import ExpectedGradients
from assay.explain.references import Reference

BASELINES = 10
"""Places from which values are counted."""
_FROM_EACH = ExpectedGradients(points=2, most=5)
"""Gradients along each line: few, for the values of all lines are averaged."""


def likeness_from_moved(
    values: Tensor, model: nn.Module, x: Tensor, target: Tensor, reference: Reference, pool: Tensor
) -> Tensor:
    """Returns how alike integrated gradients are from the baseline and from moved baselines.

    Args:
        values: (n, ...) integrated gradients by entry, from the baseline.
        model: from records to logits, in evaluation mode.
        x: (n, ...) records, no texts.
        target: (n,) class that is explained.
        reference: with the baseline, one for all records.
        pool: (m, ...) records that tell how data vary, ``BASELINES`` or more.

    Returns:
        (n,) cosines of both maps of a record, from −1 to 1; 0 for a map of zeros.

    Raises:
        ExplanationError: an answer from a moved baseline is no number.
    """
    known = pool.to(x)
    moved = reference.baseline(x)[:1] + known[:BASELINES] - known.mean(0)
    from_each = replace(reference, background=moved, middle=None)
    again = _FROM_EACH.explain(model, x, target, from_each).values
    return functional.cosine_similarity(values.flatten(1).double(), again.flatten(1).double())
