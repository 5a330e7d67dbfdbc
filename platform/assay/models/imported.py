"""The user's own network, by import path."""

import importlib
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from torch import nn

from assay.errors import UserError
from assay.models.base import Architecture
from assay.registry import register


@register("model")
class Imported(Architecture):
    """``package.module:factory``: a callable that returns a ``torch.nn.Module`` from records to logits."""

    name: Literal["imported"] = "imported"
    factory: str = Field(pattern=r"^[\w.]+:[\w.]+$")
    arguments: dict[str, Any] = Field(default_factory=dict)

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        made = self._find()(**self.arguments)
        if not isinstance(made, nn.Module):
            raise UserError(
                f"model factory {self.factory!r} returned {type(made).__name__}; it must return a torch.nn.Module"
            )
        return made

    def _find(self) -> Any:
        module, _, attribute = self.factory.partition(":")
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)
        try:
            found: Any = importlib.import_module(module)
            for part in attribute.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"model factory {self.factory!r} cannot be imported: {error}; give package.module:factory, importable "
                "from the folder in which you run"
            ) from None
        return found
