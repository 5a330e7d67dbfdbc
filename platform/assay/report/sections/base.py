"""Base class of the sections of the page; each other file here contains one section, with its template."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from assay.registry import Method, load_plugins, methods, source_of
from assay.report.view import View


@dataclass(frozen=True, kw_only=True)
class Content:
    """Figures and tables for the template of a section."""

    figures: Mapping[str, go.Figure | None] = field(default_factory=dict)
    """By name; None is left out, so the template tests ``{% if "name" in figures %}``."""
    tables: Mapping[str, Any] = field(default_factory=dict)
    """Other values of the template, by name."""


class Section(Method):
    """One part of the page of a cohort: register with ``@register("section")``, write ``build`` and a template.

    The template is ``NAME.html.j2`` in the folder of the file. It can use ``card``, ``dataset``, ``study``, ``c`` (the
    cohort's name), ``figures`` and the tables. It begins with its heading, whose id is ``{{ c }}-NAME``, with ``-`` for
    each ``_``.
    """

    title: str
    """In the table of contents."""
    order: int
    """Sections with smaller numbers come first."""
    in_contents: bool = True
    """Whether it is in the table of contents."""

    def build(self, view: View) -> Content | None:
        """Builds figures and tables of a cohort.

        Args:
            view: of the cohort.

        Returns:
            The content; None where the section does not apply, and is left out.

        Raises:
            NotImplementedError: the class does not define it.
        """
        raise NotImplementedError

    def anchor(self, cohort: str) -> str:
        """Returns the id of its heading.

        Args:
            cohort: its name.

        Returns:
            The id.
        """
        return f"{cohort}-{self.name.replace('_', '-')}"

    @property
    def folder(self) -> Path:
        """Folder of its template."""
        return source_of(type(self)).parent


def all_sections() -> list[Section]:
    """Returns every registered section, in the order of the page.

    Returns:
        The sections.
    """
    load_plugins()
    found = [section.model_validate({}) for section in methods("section").values() if issubclass(section, Section)]
    return sorted(found, key=lambda section: (section.order, section.name))
