"""The study file of a sweep: the study whose recipes are its points, and how they were searched."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml

from assay.study.search.base import Settings
from assay.study.sweep_prepare import PreparedSweep

_HERE = "recipes-of-the-points"


def study_file(
    prepared: PreparedSweep, points: Iterable[Settings], about: Mapping[str, Any], *, tested: str | None = None
) -> str:
    """Returns the content of ``study.yaml``.

    A point is one line of JSON, which is YAML too: thousands of them are then written in seconds.

    Args:
        prepared: the sweep.
        points: that were run.
        about: when, where and by which versions.
        tested: the records on which the results beside the file were measured; by default those of the sweep.

    Returns:
        The text.
    """
    sweep = prepared.sweep
    raw = sweep.study.model_dump(mode="json")
    raw["split"]["tested"] = tested or raw["split"]["tested"]
    raw["cohorts"][sweep.cohort_name]["recipes"] = _HERE
    text = yaml.safe_dump({"study": raw, **about, "sweep": prepared.about}, sort_keys=False, allow_unicode=True)
    before, after = text.split(f" {_HERE}\n")
    return f"{before}\n{''.join(_lines(prepared, points))}{after}"


def _lines(prepared: PreparedSweep, points: Iterable[Settings]) -> Iterator[str]:
    """Returns a line for each point; the base recipe where there is none, for a cohort has at least one."""
    named: set[str] = set()
    for point in points:
        name = prepared.sweep.point_name(point)
        if name not in named:
            named.add(name)
            yield _line(name, prepared.sweep.recipe_at(point).model_dump(mode="json"))
    if not named:
        yield _line("base", prepared.sweep.base.model_dump(mode="json"))


def _line(name: str, recipe: Mapping[str, Any]) -> str:
    return f"        {json.dumps(name)}: {json.dumps(recipe)}\n"
