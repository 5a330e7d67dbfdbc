"""The report: one self-contained HTML page. It needs no network, no server and no external JavaScript."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import yaml
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from assay.data.base import Dataset
from assay.report.decisions import Decisions, decide
from assay.report.figures.style import html
from assay.report.rendering import template_environment
from assay.report.rows import of_cohort
from assay.report.sections.base import Section, all_sections
from assay.report.sections.summary import summaries
from assay.report.view import View
from assay.report.words import design_text
from assay.store.folder import Store
from assay.study.registration import registration
from assay.study.spec import Study


@dataclass(frozen=True, kw_only=True)
class RenderedSection:
    """One rendered section of a cohort."""

    title: str
    anchor: str
    in_contents: bool
    html: Markup


@dataclass(frozen=True, kw_only=True)
class CohortPage:
    """The sections of one cohort."""

    name: str
    sections: tuple[RenderedSection, ...]


class Publisher:
    """Writes the report of a study repeatedly while results arrive."""

    def __init__(self, study: Study, store: Store) -> None:
        self._study, self._store = study, store
        self.path = ""

    def publish(self, datasets: Mapping[str, Dataset]) -> None:
        """Writes ``report.html`` from the stored results.

        Args:
            datasets: of the cohorts, as they were loaded for the trials.
        """
        self.path = publish_report(self._study, datasets, self._store)


def publish_report(study: Study, datasets: Mapping[str, Dataset], store: Store) -> str:
    """Writes ``report.html`` from the stored results.

    Args:
        study: of the results.
        datasets: by the name of the cohort.
        store: of the results.

    Returns:
        The path or URI of the page.
    """
    return store.write_text("report.html", render(study, datasets, store))


def render(study: Study, datasets: Mapping[str, Dataset], store: Store) -> str:
    """Renders the page from the stored results.

    Args:
        study: of the results.
        datasets: by the name of the cohort.
        store: of the results.

    Returns:
        HTML.
    """
    kept = store.read_text("study.yaml")
    about = yaml.safe_load(kept)
    frame = store.frame()
    views = [View.of(study, name, frame, datasets[name]) for name in study.cohorts]
    cards = [view.card for view in views]
    designs = list(dict.fromkeys(design_text(card.design) for card in cards))
    sections = all_sections()
    failures = store.failures()
    return (
        template_environment()
        .get_template("page.html.j2")
        .render(
            study=study,
            cohorts=[_page_of(view, sections, designs) for view in views],
            summaries=summaries(cards, decisions_of(study, store, frame), study.baseline),
            failures={trial: error.splitlines()[0] for trial, error in failures.items()},
            planned=len(about["trials"]),
            finished=frame["trial"].nunique() - len(failures),
            settings=kept,
            about=about,
            designs=designs,
            plotly=get_plotlyjs(),
        )
    )


def decisions_of(study: Study, store: Store, frame: pd.DataFrame) -> dict[str, Decisions | None]:
    """Returns the verdicts of each cohort.

    Args:
        study: of the results.
        store: of the results.
        frame: rows of the results.

    Returns:
        By the name of the cohort; None for a cohort without requirements.
    """
    return {
        name: decide(study, name, frame, registration(store, name, cohort, measured=bool(len(of_cohort(frame, name)))))
        for name, cohort in study.cohorts.items()
    }


def _page_of(view: View, sections: Sequence[Section], designs: Sequence[str]) -> CohortPage:
    """Renders every section that applies to a cohort.

    Args:
        designs: of all cohorts of the study, in words.
    """
    environment, cohort = template_environment(*dict.fromkeys(section.folder for section in sections)), view.card.cohort
    rendered = []
    for section in sections:
        content = section.build(view)
        if content is None:
            continue
        figures = {
            key: Markup(html(figure, described=key.replace("_", " ")))
            for key, figure in content.figures.items()
            if figure is not None
        }
        about = {"card": view.card, "dataset": view.dataset, "study": view.study, "c": cohort, "designs": designs}
        text = environment.get_template(f"{section.name}.html.j2").render(**about, figures=figures, **content.tables)
        rendered.append(
            RenderedSection(
                title=section.title,
                anchor=section.anchor(cohort),
                in_contents=section.in_contents,
                html=Markup(text),
            )
        )
    return CohortPage(name=cohort, sections=tuple(rendered))
