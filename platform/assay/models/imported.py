"""A network of the user's own, by import path."""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from assay.data.base import Form
from assay.errors import UserError
from assay.models.base import Architecture, GivenWeights
from assay.models.black_box import is_estimator
from assay.models.files import estimator_network
from assay.models.outputs import Output, to_logits
from assay.registry import register


@register("model")
class Imported(Architecture):
    """``package.module:factory``: a callable that returns a ``torch.nn.Module`` from records to logits.

    For two classes it may return one logit, or one probability. It may also return a fitted scikit-learn classifier,
    which is evaluated and not trained.
    """

    name: Literal["imported"] = "imported"
    factory: str = Field(pattern=r"^[\w.]+:[\w.]+$")
    arguments: dict[str, Any] = Field(default_factory=dict)
    output: Output | None = None
    """Outputs of the network; None for logits, or for one probability where its last layer is a sigmoid."""
    public_weights: bool = False
    """States that initial weights which the factory does not draw from the seed, for example from a file, were trained
    on no record of these data; otherwise no private ε is claimed."""

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        product = self._make()
        source = f"model factory {self.factory!r}"
        if isinstance(product, nn.Module):
            return to_logits(product, shape, classes, self.output)
        if is_estimator(product):
            return estimator_network(product, source, shape, classes, self.output)
        raise UserError(
            f"{source} returned {type(product).__name__}; it must return a torch.nn.Module, or a fitted scikit-learn "
            "classifier",
            setting="model",
            given=type(product).__name__,
        )

    def _make(self) -> Any:
        """Returns what the factory returns."""
        factory = self._find()
        if not callable(factory):
            raise UserError(
                f"model factory {self.factory!r} is {type(factory).__name__}, which cannot be called",
                setting="model",
                given=self.factory,
            )
        try:
            return factory(**self.arguments)
        except (Exception, SystemExit) as error:  # the user's code may raise anything, and a script may end itself
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise UserError(
                f"model factory {self.factory!r} cannot be called with {self.arguments}: {type(error).__name__}: "
                f"{error} ({Path(place.filename).name}, line {place.lineno})",
                setting="model",
                given=self.factory,
            ) from error

    def fingerprint(self) -> str:
        """Returns a hash of the file of the factory and of the files that its arguments name."""
        self._reach()
        try:
            spec = importlib.util.find_spec(self.factory.partition(":")[0])
        except (ImportError, ValueError):
            return ""
        origin = None if spec is None else spec.origin
        files = [*([origin] if origin and Path(origin).is_file() else []), *_files_in(self.arguments)]
        hashes = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest() if hashes else ""

    def given_weights(self, form: Form) -> GivenWeights | None:
        """Returns a file among the arguments, or weights that do not depend on the seed.

        Constants, such as zero biases, contain no information and do not count. Buffers are not examined.

        Args:
            form: of the records.

        Returns:
            The description of the weights, or None.
        """
        for path in _files_in(self.arguments):
            return GivenWeights.of_file(path, public=self.public_weights)
        one, same, other = (
            dict(self.build(form.network_shape, form.classes, seed=seed).named_parameters()) for seed in (0, 0, 1)
        )
        for name, drawn in one.items():
            if not torch.equal(drawn, same[name]) or (torch.equal(drawn, other[name]) and drawn.unique().numel() > 1):
                source = f"the factory {self.factory} (it does not draw {name} from the seed)"
                return GivenWeights(source=source, public=self.public_weights)
        return None

    def _reach(self) -> None:
        """Makes the working directory importable, as it is for the user."""
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)

    def _find(self) -> Any:
        module, _, attribute = self.factory.partition(":")
        self._reach()
        try:
            factory: Any = importlib.import_module(module)
            for part in attribute.split("."):
                factory = getattr(factory, part)
        except (Exception, SystemExit) as error:  # a module runs when it is imported: a script may end itself
            named = "" if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: "
            raise UserError(
                f"model factory {self.factory!r} cannot be imported: {named}{error}; give package.module:factory, "
                "importable from the folder in which you run",
                setting="model",
                given=self.factory,
            ) from error
        return factory


def _files_in(value: Any) -> Iterator[str]:
    """Yields paths of files among the arguments of a factory, at any depth."""
    if isinstance(value, str) and _is_file(value):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for one in inner:
        yield from _files_in(one)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # too long for a file name
        return False
