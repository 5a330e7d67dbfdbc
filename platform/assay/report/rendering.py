"""Templates of the reports, with their filters and functions."""

import math
from functools import lru_cache
from pathlib import Path

import jinja2

from assay import statistics
from assay.report.cells import runs_text
from assay.report.claims import claim_figure, claimed_text
from assay.report.evidence import in_tables, norm_text, parts
from assay.report.figures.style import colours
from assay.report.sections.summary import summary_cell, value_text
from assay.report.tables.attacks import caption
from assay.report.words import (
    bytes_text,
    cell_text,
    comparison_text,
    design_text,
    interval_meaning,
    interval_text,
    notes,
    points_text,
    shown,
    summary_text,
)
from assay.threats import radius_text


@lru_cache(maxsize=8)
def template_environment(*folders: Path) -> jinja2.Environment:
    """Returns the environment of the templates, with their filters and functions.

    Args:
        folders: with more templates, such as those of sections.

    Returns:
        The environment.
    """
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader("assay.report", "templates"), jinja2.FileSystemLoader(folders)]
        ),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"shown": shown, "radius": radius_text}
    environment.globals |= {
        "cell_text": cell_text,
        "bytes_text": bytes_text,
        "points_text": points_text,
        "interval_text": interval_text,
        "notes": notes,
        "runs_text": runs_text,
        "comparison_text": comparison_text,
        "claimed_text": claimed_text,
        "shown_claim": claim_figure,
        "colours": colours,
        "norm_text": norm_text,
        "in_tables": in_tables,
        "parts": parts,
        "value_text": value_text,
        "summary_cell": summary_cell,
        "summary_text": summary_text,
        "attack_caption": caption,
        "design_text": design_text,
        "interval_meaning": interval_meaning,
        "signed_rank_floor": statistics.signed_rank_floor,
        "isnan": math.isnan,
    }
    return environment
