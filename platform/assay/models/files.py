"""Whole models in a file: ONNX, and scikit-learn's estimators by skops. Neither is unpickled."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from torch import nn

from assay.data.base import Form
from assay.errors import CheckpointError, UserError
from assay.models.base import Architecture, GivenWeights, file_digest
from assay.models.black_box import EstimatorNetwork, OnnxNetwork
from assay.models.outputs import Output, to_logits
from assay.registry import register


class ModelFile(Architecture):
    """A trained model in a file, with structure and weights; it is evaluated and never trained."""

    path: str = Field(min_length=1)
    output: Output | None = None
    """Outputs of the model; by default logits, or for scikit-learn what the estimator provides."""

    def fingerprint(self) -> str:
        return file_digest(self.path)

    def given_weights(self, form: Form) -> GivenWeights | None:
        return GivenWeights.of_file(self.path, public=False)


@register("model")
class Onnx(ModelFile):
    """An ``.onnx`` file, run by ONNX Runtime. It has no gradient, so only black-box attacks and measures apply."""

    name: Literal["onnx"] = "onnx"

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        return to_logits(OnnxNetwork(self.path), shape, classes, self.output)


@register("model")
class Skops(ModelFile):
    """A ``.skops`` file of a fitted scikit-learn classifier; types that skops does not trust are refused by name."""

    name: Literal["skops"] = "skops"

    def network(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        return estimator_network(self._read(), f"file {self.path!r}", shape, classes, self.output)

    def _read(self) -> Any:
        if not Path(self.path).is_file():
            raise CheckpointError(f"skops file {self.path!r} does not exist", setting="model", given=self.path)
        try:
            import skops.io
        except ImportError:
            raise UserError(
                f"{self.path!r} is a skops file, and skops is not installed: pip install 'assay[skops]'",
                setting="model",
                given=self.path,
            ) from None
        try:
            strange = skops.io.get_untrusted_types(file=self.path)
        except Exception as error:  # skops may raise anything on a damaged file
            raise CheckpointError(
                f"{self.path!r} cannot be read by skops: {error}", setting="model", given=self.path
            ) from None
        if strange:
            raise CheckpointError(
                f"{self.path!r} holds types that skops does not trust: {', '.join(strange[:6])}. Assay runs no code "
                "of a file: give --model package.module:factory that loads it where you trust it",
                setting="model",
                given=strange,
            )
        return skops.io.load(self.path)


def estimator_network(
    estimator: Any, source: str, shape: tuple[int, ...], classes: int, output: Output | None
) -> nn.Module:
    """Returns a fitted scikit-learn classifier as a network from records to logits.

    Args:
        estimator: the classifier.
        source: its origin, for errors.
        shape: of one record.
        classes: number of classes.
        output: kind of its outputs, where its methods do not tell.

    Returns:
        A module from records (n, *shape) to logits (n, classes).

    Raises:
        UserError: it is not fitted, or its classes are not 0, 1, ….
    """
    network = EstimatorNetwork(estimator, source)
    return to_logits(
        network, shape, classes, output or ("probabilities" if network.returns_probabilities else "logits")
    )
