"""Labels from the gradient of the last layer (iDLG, Zhao et al. 2020, arXiv:2001.02610; Yin et al. 2021)."""

import torch
from torch import Tensor, nn

from assay.errors import UserError
from assay.federated.inversion.observed import ObservedUpdate


def infer_labels(model: nn.Module, update: ObservedUpdate, *, classes: int, records: int | None = None) -> Tensor:
    """Infers the labels of the records behind an update of cross-entropy.

    The gradient of the last bias is the mean of p − y over the records: the only negative entry of a single record is
    its class. Without a bias, the sums of the weights' rows have the same signs, as long as the layer's inputs are not
    negative. Of several records, the class with the least entry is taken, a record's share is added to that entry, and
    so on, so that classes may repeat (after Yin et al. 2021, arXiv:2104.07586, where they may not).

    Args:
        model: the network.
        update: of one client.
        classes: number of classes.
        records: how many labels are inferred; as many as there are records by default.

    Returns:
        (records,) int64 classes, in increasing order.

    Raises:
        UserError: the network does not end in a fully connected layer with an output for each class.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1:]
    if not last or last[0].out_features != classes or not any(last[0].weight is p for p in parameters):
        raise UserError(
            f"labels are inferred from a last fully connected layer with {classes} outputs, which this network does "
            "not have; state labels: known",
            setting="labels",
            given="inferred",
            allowed=("known",),
        )
    place = {id(p): number for number, p in enumerate(parameters)}
    bias = last[0].bias
    if bias is not None and id(bias) in place:
        entries = update.gradients[place[id(bias)]].double().clone()
    else:
        entries = update.gradients[place[id(last[0].weight)]].double().sum(1)
        entries = entries / entries.abs().sum().clamp_min(1e-300)
    count = update.records if records is None else records
    found = []
    for _ in range(count):
        found.append(int(entries.argmin()))
        entries[found[-1]] += 1 / count
    return torch.tensor(sorted(found))
