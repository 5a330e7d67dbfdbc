"""How the page names the figures of a trial that the index has as columns."""

from typing import Literal, NamedTuple

from assay.radii import radius_text


class Headline(NamedTuple):
    """Name, unit and direction of a figure."""

    title: str
    unit: Literal["share", "seconds", "", "ε"]
    better: Literal["higher", "lower", ""]
    meaning: str


HEADLINES = {
    "accuracy": Headline("Accuracy", "share", "higher", "Share of the records that are classified correctly."),
    "balanced_accuracy": Headline("Balanced accuracy", "share", "higher", "Mean of the shares of each class."),
    "auroc": Headline("AUROC", "", "higher", "How well the model ranks ill above well; 0.5 is chance."),
    "sensitivity": Headline("Sensitivity", "share", "higher", "Share of the ill that are found."),
    "specificity": Headline("Specificity", "share", "higher", "Share of the well that are left in peace."),
    "calibration_error": Headline("Calibration error", "", "lower", "Gap between stated and true probabilities."),
    "epsilon": Headline("ε claimed", "ε", "lower", "Privacy that the training spent; ∞ promises nothing."),
    "training_seconds": Headline("Training time", "seconds", "lower", "Seconds to train the model."),
    "seconds": Headline("Time of the trial", "seconds", "lower", "Seconds of training and all measurements."),
}
"""By the names of the columns of ``assay.store.columns``."""
_NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "": ""}


def worst_case(norm: str, epsilon: float) -> tuple[str, Headline]:
    """Returns key and name of the accuracy in the worst case at a radius.

    Args:
        norm: of the threat.
        epsilon: radius, in the units of the data.

    Returns:
        The key of the column, and how it is named.
    """
    shown = _NORMS.get(norm, norm)
    title = f"Worst case, ε = {radius_text(epsilon)}" + (f" ({shown})" if shown not in ("", "L∞") else "")
    meaning = f"Share of the records that no attack within {shown or 'the'} radius {radius_text(epsilon)} changes."
    return f"worst_case:{norm}:{epsilon:g}", Headline(title, "share", "higher", meaning)
