"""Arguments of a call of a model, so that the model can be called again with some of the rows, or with others."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from assay import seeds
from assay.errors import IncompatibleRecipeError


class Call(NamedTuple):
    """Arguments of a call of a model."""

    leaves: list[Any]
    spec: TreeSpec
    by_row: list[bool]
    """Which leaves have one row, or k rows, for each record."""

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Call":
        """Returns a copy of the arguments in their present state, since the model may change them in place.

        Args:
            args: positional arguments.
            kwargs: keyword arguments.

        Returns:
            The call.
        """
        leaves, spec = tree_flatten((args, kwargs))
        leaves = [one.detach().clone() if isinstance(one, Tensor) else one for one in leaves]
        rows = next((len(one) for one in leaves if isinstance(one, Tensor) and one.dim()), 0)
        return cls(leaves, spec, [isinstance(one, Tensor) and one.dim() > 0 and len(one) == rows for one in leaves])

    @property
    def rows(self) -> int:
        return next((len(one) for one, by_row in zip(self.leaves, self.by_row, strict=True) if by_row), 0)

    @property
    def device(self) -> torch.device:
        return next(one.device for one, by_row in zip(self.leaves, self.by_row, strict=True) if by_row)

    def changed(self, change: Callable[[Tensor], Tensor], *, all_tensors: bool = False) -> "Call":
        """Returns the call with the tensors of records changed, or all tensors.

        Args:
            change: maps a tensor to its replacement.
            all_tensors: whether tensors without rows of records are changed, too.

        Returns:
            A new call.
        """
        leaves = [
            change(one) if by_row or (all_tensors and isinstance(one, Tensor)) else one
            for one, by_row in zip(self.leaves, self.by_row, strict=True)
        ]
        return self._replace(leaves=leaves)

    def only(self, rows: Sequence[int]) -> "Call":
        """Returns the call with some rows only.

        Args:
            rows: positions of the rows.

        Returns:
            A new call.
        """
        return self.changed(lambda one: one[list(rows)])

    def answers(self, model: nn.Module, seed: int = 0) -> Tensor:
        """Calls the model and returns its outputs as one table.

        Args:
            model: the network.
            seed: of layers that draw random numbers.

        Returns:
            (rows, numbers) all floating-point outputs of each row.

        Raises:
            IncompatibleRecipeError: no tensor of the output has the records at axis 0.
        """
        seeds.seed_layers(seed)
        args, kwargs = tree_unflatten(
            [one.clone() if isinstance(one, Tensor) else one for one in self.leaves], self.spec
        )
        output = model(*args, **kwargs)
        tensors = [one for one in tree_leaves(output) if isinstance(one, Tensor)]
        tables = [one for one in (_by_row(tensor, self.rows) for tensor in tensors) if one is not None]
        if not tables:
            given = f"{type(output).__name__} of shapes {[tuple(one.shape) for one in tensors]}"
            raise IncompatibleRecipeError(
                f"the model answers {self.rows} records with {given}, so that it cannot be asked whether the answers "
                "depend on other records: answer with one tensor whose axis 0 is that of the records",
                setting="model",
                given=given,
                allowed=f"a tensor of {self.rows} rows",
            )
        return torch.cat(tables, 1)


def _by_row(answer: Tensor, rows: int) -> Tensor | None:
    """Returns an output as (rows, numbers), with the records at axis 0, or at axis 1 as states are."""
    answer = answer if answer.is_floating_point() or answer.is_complex() else answer.double()
    answer = torch.view_as_real(answer) if answer.is_complex() else answer
    if answer.dim() and len(answer) and len(answer) % rows == 0:
        return answer.reshape(rows, -1)
    if answer.dim() > 1 and answer.shape[1] == rows:
        return answer.transpose(0, 1).reshape(rows, -1)
    return None
