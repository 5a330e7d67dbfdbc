"""Accuracy under attack, certificates, and checks of attacks."""

from typing import Literal

import pandas as pd

from assay.registry import register
from assay.report.figures import certificates, matrix
from assay.report.figures.robustness import worst_case_figure
from assay.report.rows import measured, settings
from assay.report.scales import own_units
from assay.report.sections.base import Content, Section
from assay.report.tables.adaptive import adaptive
from assay.report.tables.attacks import attacks
from assay.report.tables.certificates import certified_table
from assay.report.tables.classes import classes
from assay.report.view import View


@register("section")
class RobustnessSection(Section):
    """Accuracy under attack, certificates, and checks of attacks."""

    name: Literal["robustness"] = "robustness"
    title: str = "Robustness"
    order: int = 20

    def build(self, view: View) -> Content | None:
        card, frame = view.card, view.frame
        proven = {"certified": certificates.interval_bounds(view), "smoothed": certificates.smoothing(view)}
        methods = {"certified": certificates.INTERVAL, "smoothed": certificates.SMOOTHING}
        return Content(
            figures={
                "robustness": worst_case_figure(view),
                "matrix": matrix.train_against_test(view),
                **proven,
            },
            tables={
                "attacked": _attacked(frame),
                "own_units": own_units(frame, card.reference_epsilon),
                "attacks": attacks(card, frame),
                "classes": classes(card, frame),
                "answered": adaptive(card, frame),
                "certified": {
                    key: certified_table(card, frame, methods[key])
                    for key, drawn in proven.items()
                    if drawn is not None
                },
            },
        )


def _attacked(frame: pd.DataFrame) -> list[str]:
    """Returns the attacks of a worst case over all trials; all single attacks where it does not name them."""
    rows = measured(frame, "worst_case_accuracy")
    named = dict.fromkeys(label for c in rows["conditions"] for label in c.get("attacks", ()))
    found = named or dict.fromkeys(settings(measured(frame, "robust_accuracy"), "attack"))
    return [label.replace("_", " ") for label in found]
