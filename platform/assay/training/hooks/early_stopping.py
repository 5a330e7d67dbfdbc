"""Early stopping on robust validation accuracy (Rice et al. 2020, arXiv:2002.11569)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from assay.attacks.ascent import ascend
from assay.objectives.base import Batch
from assay.recipes import EarlyStopping
from assay.training.hooks.averaging import Averaging
from assay.training.hooks.base import Hook
from assay.training.hooks.probe import Probe, ProbeAttack

if TYPE_CHECKING:
    from assay.training.loop import Trainer


class EarlyStopper(Hook):
    """Keeps the weights with the best accuracy under PGD on validation records, and ends training early.

    Training ends when no better weights come. Of equally good weights the first are kept. Training ends with them,
    whether its epochs or the patience run out. All workers measure the same accuracies and take the same decision. The
    hook reads validation records, which belong to patients too, and no ε is charged for them; so it is refused with
    privacy.

    Args:
        settings: attack, patience, and epochs between measurements.
        probe: measures the accuracy on the validation records.
        averaging: the averaging hook, if the recipe has one. Then the average is measured and kept instead of the
            weights of the last step, with which training continues. It comes before this hook in the trainer.
    """

    name = "early_stopping"

    def __init__(self, settings: EarlyStopping, probe: Probe, *, averaging: Averaging | None = None) -> None:
        self.accuracies: list[float] = []
        """Robust validation accuracy at each measurement, in [0, 1]."""
        self._settings, self._probe, self._averaging = settings, probe, averaging
        self._kept: dict[str, Tensor] = {}

    @property
    def figures(self) -> Mapping[str, Sequence[float]]:
        return {"robust_validation": self.accuracies}

    @property
    def out_of_patience(self) -> bool:
        """Whether the last ``patience`` measurements brought no improvement."""
        return bool(self.accuracies) and len(self.accuracies) - 1 - self._best >= self._settings.patience

    def after_epoch(self, trainer: "Trainer", *, last: bool) -> None:
        if trainer.epoch % self._settings.every and not last:
            return
        # After the last epoch the model holds the average already.
        weights = None if self._averaging is None or last else self._averaging.swap(trainer.model)
        self._measure(trainer.model)
        if self.out_of_patience:
            trainer.stop()
        if self.out_of_patience or last:
            trainer.model.load_state_dict(self._kept)
        elif weights is not None:
            trainer.model.load_state_dict(weights)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self._kept, {"accuracies": self.accuracies}

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        self._kept, self.accuracies = dict(tensors), list(about["accuracies"])

    @property
    def _best(self) -> int:
        """Number of the best measurement, from 0; the first of equal ones."""
        return self.accuracies.index(max(self.accuracies))

    def _measure(self, model: nn.Module) -> None:
        """Measures the model's accuracy, and keeps its weights if it is the best so far."""
        self.accuracies.append(self._probe.accuracy(model, under_pgd(self._settings)))
        if self._best == len(self.accuracies) - 1:
            self._kept = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def under_pgd(settings: EarlyStopping) -> ProbeAttack:
    """Returns an attack of validation records by PGD.

    Args:
        settings: radius, norm and steps.

    Returns:
        A function from a model and a batch to attacked records, (n, ...); the records themselves at radius 0.
    """

    def attacked(model: nn.Module, batch: Batch) -> Tensor:
        x, bounds = batch.movable(model)
        epsilon, steps = settings.epsilon, settings.steps
        if epsilon == 0:
            return x
        threat = batch.threat(bounds, epsilon=epsilon, norm=settings.norm)
        size = settings.relative_step * epsilon / steps
        # The margin loss keeps a gradient where cross-entropy is flat, which must not be mistaken for robustness.
        adversarial, _ = ascend(
            model, x, batch.y, threat, start=x, steps=steps, step_size=size, loss="margin", keep_fooled=True
        )
        return adversarial

    return attacked
