"""Every recipe under every attack at the reference radius."""

import pandas as pd

from assay.report.cells import ScoreTable, tabulate
from assay.report.evidence import Evidence, norm_text
from assay.report.rows import measured, select, settings
from assay.report.scorecard import Scorecard
from assay.report.words import attack_title
from assay.threats import radius_text

_DISTANCE = "_median_distance"


def attacks(card: Scorecard, frame: pd.DataFrame) -> ScoreTable | None:
    """Builds a table of accuracy: without an attack, worst case, certified, and each attack, strongest first.

    To the right are other threat models: patches, and the median distance of attacks that search for the smallest
    change and have no accuracy in this norm.

    Args:
        card: of the cohort.
        frame: rows of the cohort.

    Returns:
        The table; None without attacks.
    """
    threat = {"epsilon": card.reference_epsilon, "norm": card.reference_norm}
    ran = _ran(frame, threat)
    worst = Evidence(
        key="worst", title="worst case", name="worst_case_accuracy", where=threat, meaning="", sampled=True
    )
    evidence = [
        Evidence(key="accuracy", title="no attack", name="accuracy", meaning=""),
        worst,
        *_proven(frame, threat),
        *(
            Evidence(
                key=attack,
                title=attack_title(attack),
                name="robust_accuracy",
                where={"attack": attack, **threat},
                meaning="",
                sampled=True,
                # An adaptive attack runs only where a check called for it: a worst case over all runs is no match.
                beside=worst,
            )
            for attack in ran
        ),
        *_patches(frame),
        *_distances(frame, ran),
    ]
    found, _ = tabulate(evidence, card.recipes, frame, card.design)
    return found if ran else None


def _ran(frame: pd.DataFrame, threat: dict[str, object]) -> list[str]:
    """Returns the attacks at this radius, including those that could not be run; the strongest first."""
    asked = settings(select(frame, "robust_accuracy", **threat), "attack")
    rows = measured(frame, "robust_accuracy", **threat)
    by_attack = rows["value"].groupby([c.get("attack") for c in rows["conditions"]]).mean()
    left = {str(attack): float(accuracy) for attack, accuracy in by_attack.items()}
    return sorted(asked, key=lambda attack: left.get(attack, 2.0))


def _proven(frame: pd.DataFrame, threat: dict[str, object]) -> list[Evidence]:
    methods = settings(select(frame, "certified_accuracy", **threat), "method")
    return [
        Evidence(
            key=f"certified {method}",
            title=f"certified ({method})",
            name="certified_accuracy",
            where={"method": method, **threat},
            meaning="",
            sampled=True,
        )
        for method in methods
    ]


def _patches(frame: pd.DataFrame) -> list[Evidence]:
    """Returns the columns of the optimised patch and the random one, at each size."""
    rows = measured(frame, "patch_accuracy")
    pairs = dict.fromkeys((c["attack"], float(c["share"])) for c in rows["conditions"] if c["share"])
    return [
        Evidence(
            key=f"{attack} {share}",
            title=f"{attack.replace('_', ' ')}, {100 * share:.3g} % of the area",
            name="patch_accuracy",
            where={"attack": attack, "share": share},
            meaning="",
            sampled=True,
        )
        for attack, share in pairs
    ]


def _distances(frame: pd.DataFrame, ran: list[str]) -> list[Evidence]:
    """Returns the columns of the attacks without an accuracy in this threat model."""
    names = [name for name in frame["name"].unique() if name.endswith(_DISTANCE)]
    found = []
    for name in sorted(names):
        attack = name.removesuffix(_DISTANCE)
        rows = select(frame, name)
        if attack in ran or not (rows["status"] != "not_applicable").any():
            continue
        norms = settings(rows, "norm")
        told = f" ({', '.join(norm_text(norm) for norm in norms)})" if norms else ""
        title = f"{attack.replace('_', ' ')}, median distance{told}"
        found.append(
            Evidence(key=name, title=title, name=name, meaning="", unit="number", most=float("inf"), sampled=True)
        )
    return found


def caption(card: Scorecard) -> str:
    """Describes the threat model of the table.

    Args:
        card: of the cohort.

    Returns:
        A text.
    """
    return f"ε = {radius_text(card.reference_epsilon)} in {norm_text(card.reference_norm)}"
