"""What a section of the page is; each file beside this one holds one, with its template."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from assay.registry import Method, load_plugins, methods, source_of
from assay.report.view import View


@dataclass(frozen=True, kw_only=True)
class Content:
    """What the template of a section shows."""

    figures: Mapping[str, go.Figure | None] = field(default_factory=dict)
    """By name; what is None is left out, so the template asks ``{% if "name" in figures %}``."""
    tables: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the template shows, by the name that it has there."""


class Section(Method):
    """One part of the page of a cohort: register with ``@register("section")``, write ``build`` and a template.

    The template is ``NAME.html.j2`` in the folder of the file. It knows ``card``, ``dataset``, ``study``, ``c`` (the
    cohort's name), ``figures`` and the tables, and begins with its heading, whose id is ``{{ c }}-NAME``, with ``-``
    for each ``_``.
    """

    title: str
    """In the table of contents."""
    order: int
    """Sections with smaller numbers stand further up."""
    in_contents: bool = True
    """Whether the table of contents names it."""

    def build(self, view: View) -> Content | None:
        """The figures and tables of a cohort; None where the section says nothing of it, and is left out."""
        raise NotImplementedError

    def anchor(self, cohort: str) -> str:
        """Id of its heading."""
        return f"{cohort}-{self.name.replace('_', '-')}"

    @property
    def folder(self) -> Path:
        """Where its template lies."""
        return source_of(type(self)).parent


def all_sections() -> list[Section]:
    """Every section that is known, in the order of the page."""
    load_plugins()
    found = [section.model_validate({}) for section in methods("section").values() if issubclass(section, Section)]
    return sorted(found, key=lambda section: (section.order, section.name))
