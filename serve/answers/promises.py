"""Promises of the rules that held-out records chose: whether they hold for a record, and were checked by the study.

A conformal set and a rule of abstention keep their promise on records that are exchangeable with those of the
calibration (``assay.evaluations.conformal``, ``assay.evaluations.selective``). Of a record that is unlike them, or of
another hospital, nothing is promised; nor where nothing says of which hospital it is.
"""

from dataclasses import dataclass, replace

from assay.report.checks import checks_of
from assay.results import RAISED
from assay.study.finished import Finished
from serve.answers.held_out import ABSTENTION, ALPHA, METHOD, HeldOut

OUTSIDE = "a value lies outside the range of the training records"
DOUBTFUL = "the grey values of the image may be scaled otherwise than those of the training records"
UNLIKE = "the record is unlike the held-out records that calibrated the model"


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A promise that the study compared with its test records."""

    measured: bool
    """Whether it did, at the setting that is served."""
    refuted: bool
    """Whether the test records speak against the promise."""


def coverage_checked(finished: Finished) -> Checked:
    """Returns whether the coverage of the served prediction sets was checked, and refuted.

    Args:
        finished: the trial with its measurements.
    """
    return _checked(finished, "conformal_coverage", "conformal_coverage", method=METHOD, alpha=ALPHA)


def risk_checked(finished: Finished) -> Checked:
    """Returns whether the risk of the served rule of abstention was checked, and refuted.

    Args:
        finished: the trial with its measurements.
    """
    found = _checked(finished, "risk_after_abstention", "selective_risk", risk=ABSTENTION.risk)
    # The check does not say of which risk it is: of another one than the served, it refutes nothing here.
    return replace(found, refuted=found.measured and found.refuted)


def _checked(finished: Finished, measurement: str, rule: str, **settings: str | float) -> Checked:
    rows = finished.own
    rows = rows[((rows["name"] == measurement) & (rows["status"] == "measured")).to_numpy(bool)]
    measured = any(all(one.get(key) == value for key, value in settings.items()) for one in rows["conditions"])
    # One check judges all sets of a method: where it warns, the records are not exchangeable, whatever the share.
    refuted = any(
        check.verdict in RAISED and all(check.conditions.get(key) in (None, value) for key, value in settings.items())
        for check in checks_of(finished.own)
        if check.rule == rule
    )
    return Checked(measured=measured, refuted=refuted)


def why_unlike(rules: HeldOut, *, distance: float, outside: bool, doubtful: bool) -> str:
    """Returns why a record counts as unlike the held-out ones; empty where it does not.

    Args:
        rules: that were chosen on held-out records.
        distance: out-of-distribution score of the record.
        outside: whether a value lies outside the range of the training records.
        doubtful: whether the grey values of an image may be scaled otherwise.
    """
    if outside or doubtful:
        return OUTSIDE if outside else DOUBTFUL
    return UNLIKE if rules.greatest_score is not None and distance > rules.greatest_score else ""


def why_not_of_these_hospitals(rules: HeldOut, site: str) -> str:
    """Returns why a record is not known to be of the hospitals whose records calibrated the model; empty where it is.

    Args:
        rules: that were chosen on held-out records.
        site: hospital of the record by ``intended_use.site_of``; empty where nothing names it.
    """
    if not rules.sites:
        return (
            "the data set does not name the hospitals of its records, so it is not known whether this record is of one "
            "of them"
        )
    if not site:
        return (
            "nothing says that the record is of a hospital whose records calibrated the model; give the hospital as "
            "site of about"
        )
    return "" if site in rules.sites else "the record is of another hospital than those that calibrated the model"
