"""Where a replica computes."""

import torch

from assay.errors import UserError


def device_of(gpus: float) -> torch.device:
    """Returns the device of a replica, in its process: the GPU that it has reserved, or the CPU.

    Args:
        gpus: that it has reserved.

    Returns:
        The device.

    Raises:
        UserError: it has reserved a GPU that PyTorch does not find.
    """
    if not gpus:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(
            f"gpus={gpus:g}: the replica has reserved a GPU, but PyTorch finds none on its machine; install a "
            "driver and a PyTorch with CUDA there (on Kubernetes the image for cuda), or serve with gpus=0",
            setting="gpus",
            given=gpus,
            allowed=0,
        )
    return torch.device("cuda")
