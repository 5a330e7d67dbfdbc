"""One page that needs nothing else, says everything that the results say, and trusts no name."""

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from assay.report.evidence import scorecard_columns
from assay.report.page import Publisher, publish_report
from assay.report.scorecard import Scorecard
from assay.report.words import cell_text, comparison_text, interval_text
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from assay.store.rows import MEASUREMENT_SCHEMA
from assay.study.plan import load_datasets
from assay.study.registration import register_requirements
from assay.study.spec import Study

MakeStudy = Callable[..., Study]
Fill = Callable[..., Store]
Trial = Callable[..., TrialRecord]

NOTHING = MEASUREMENT_SCHEMA.empty_table().to_pandas()
COLUMNS = {column.key: column for column in scorecard_columns(NOTHING, epsilon=0.3)}
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Tags(HTMLParser):
    """Every tag with its attributes, and the text between."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(page.replace(get_plotlyjs(), "/* plotly */"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def write(study: Study, store: Store) -> str:
    publish_report(study, load_datasets(study), store)
    return store.read_text("report.html")


@pytest.fixture(scope="session")
def page(study: MakeStudy, whole: Store) -> str:
    """The page of the finished default study."""
    return write(study(), whole)


@pytest.fixture
def render(fill: Fill, tmp_path: Path) -> Callable[..., str]:
    """The page of a study of which the given records are stored."""
    return lambda study, records=None: write(study, fill(study, tmp_path / "results", records))


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    tags = Tags(page)
    assert not tags.all("link")
    assert not tags.all("iframe")
    assert not tags.all("img")
    loading = {"src", "srcset", "action", "formaction", "data", "poster"}
    assert not [attributes for _, attributes in tags.tags if loading & set(attributes)]
    assert all(attributes["href"].startswith("#") for attributes in tags.all("a"))
    own = page.replace(get_plotlyjs(), "")
    for reaching_out in ("@import", "url(", "fetch(", "XMLHttpRequest", "WebSocket", "import(", "sendBeacon"):
        assert reaching_out not in own
    assert not re.search(r"https?://", own)


def test_what_is_restored_is_said_of_each_kind_of_record(
    page: str, render: Callable[..., str], study: MakeStudy, tmp_path: Path
) -> None:
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"word{i % 3},{i % 2}\n" for i in range(60)))
    texts = render(study(cohort={"dataset": {"name": "text_file", "path": str(tmp_path / "texts.csv")}}))
    for text, words in ((Tags(page).text, False), (Tags(texts).text, True)):
        assert ("Replaced features get values of other texts" in text) == words
        assert ("Replaced features get values of other records" in text) != words
        assert "ONE record" in text


def test_every_link_leads_somewhere(page: str) -> None:
    tags = Tags(page)
    places = {attributes["id"] for _, attributes in tags.tags if "id" in attributes}
    assert {attributes["href"].removeprefix("#") for attributes in tags.all("a")} <= places


def test_every_recipe_warning_and_verdict_is_there(page: str, card: Scorecard) -> None:
    text = Tags(page).text
    for recipe in card.recipes:
        assert recipe in text
    for cell in card.cells.values():
        for warning in cell.warnings:
            assert warning in text
    for check in card.checks.itertuples():
        assert check.rule.replace("_", " ") in text
    for column in card.evidence:
        assert column.meaning in text


def test_every_figure_of_the_scorecard_is_there(page: str, card: Scorecard) -> None:
    text = Tags(page).text
    for (_, key), cell in card.cells.items():
        assert cell_text(cell, COLUMNS[key]) in text
        assert interval_text(cell, COLUMNS[key]) in text
    for (_, key), comparison in card.comparisons.items():
        assert comparison_text(comparison, COLUMNS[key]) in text


def test_a_finished_study_says_so(page: str) -> None:
    text = Tags(page).text
    assert "9 of 9 trials finished" in text
    assert "not complete" not in text
    assert "failed and are missing" not in text
    assert "3-fold cross-validation" in text


def test_how_it_was_run_stands_below(page: str) -> None:
    text = Tags(page).text
    for words in ("abc123", "torch", "seed 0", "recipes:", "Licence: unknown", "as in the file"):
        assert words in text


@pytest.fixture(scope="module")
def unfinished(study: MakeStudy, trial: Trial, fill: Fill, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a study of which one trial is finished, and one more with accuracy alone."""
    records = [trial("standard", 0), trial("private", 0, only={"accuracy"})]
    return write(study(), fill(study(), tmp_path_factory.mktemp("unfinished"), records))


def test_an_unfinished_study_says_what_is_missing(unfinished: str) -> None:
    text = Tags(unfinished).text
    assert "2 of 9 trials finished" in text
    assert "This study is not complete: 7 trials are still to come" in text


def test_a_study_that_has_only_begun_has_a_page(render: Callable[..., str], study: MakeStudy) -> None:
    text = Tags(render(study(cohort={"reference_epsilon": None}), [])).text
    assert "0 of 9 trials finished" in text
    assert "9 trials are still to come" in text
    assert not re.search(r"\bnan\b", text)


def test_failures_are_named_with_their_reason(render: Callable[..., str], study: MakeStudy, trial: Trial) -> None:
    records = [trial("standard", fold, only={"accuracy"}) for fold in range(2)]
    failed = trial("standard", 2, error=f"ValueError: {EVIL}\n  File trial.py, line 3")
    text = Tags(render(study({"standard": {}}), [*records, failed])).text
    assert "1 trials failed and are missing from every figure" in text
    assert f"standard · fold 3: ValueError: {EVIL}" in text
    assert "line 3" not in text
    assert "2 of 3 trials finished" in text


def test_what_has_failed_is_not_still_to_come(render: Callable[..., str], study: MakeStudy, trial: Trial) -> None:
    records = [trial("standard", fold, only={"accuracy"}) for fold in range(2)]
    page = render(study({"standard": {}}), [*records, trial("standard", 2, error="ValueError: odd")])
    assert "still to come" not in Tags(page).text


def test_a_study_of_failures_has_a_page(render: Callable[..., str], study: MakeStudy, trial: Trial) -> None:
    records = [trial("standard", fold, error="ValueError: odd") for fold in range(3)]
    assert "3 trials failed" in Tags(render(study({"standard": {}}), records)).text


@pytest.fixture(scope="module")
def evil(study: MakeStudy, trial: Trial, fill: Fill, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a study whose every free text would like to be a script."""
    folder = tmp_path_factory.mktemp("evil")
    path = folder / "evil.npz"
    np.savez(path, x=np.eye(4, dtype=np.float32), y=[0, 1, 0, 1], class_names=[f"well {EVIL}", f"ill {EVIL}"])
    about = {key: f"{key} {EVIL}" for key in ("units", "licence", "citation")}
    dataset = {"name": "arrays", "path": str(path), "low": 0, "high": 1, **about}
    asked = study({"standard": {}}, {"dataset": dataset}, title=f"title {EVIL}", question=f"question {EVIL}")
    warned = Measurement(name="accuracy", value=0.9, warnings=(f"warning {EVIL}",))
    finished = [trial("standard", fold, dataset="evil", measurements=(warned,)) for fold in range(2)]
    failed = trial("standard", 2, dataset="evil", error=f"error {EVIL}")
    return write(asked, fill(asked, folder / "results", [*finished, failed]))


def test_words_are_shown_and_never_run(render: Callable[..., str], evil: str, study: MakeStudy) -> None:
    tags, harmless = Tags(evil), Tags(render(study({"standard": {}}), []))
    assert not tags.all("img")
    assert not [attributes for _, attributes in tags.tags if any(key.startswith("on") for key in attributes)]
    for words in ("title", "question", "units", "licence", "citation", "well", "ill", "warning", "error"):
        assert f"{words} {EVIL}" in tags.text
    assert len(tags.all("script")) == len(harmless.all("script"))


def test_two_cohorts_on_the_same_data_are_kept_apart(
    render: Callable[..., str], study: MakeStudy, trial: Trial
) -> None:
    raw = study({"standard": {}}).model_dump(mode="json")
    small = {**raw["cohorts"]["made"], "model": {"name": "mlp", "hidden": [2]}}
    asked = Study.model_validate({**raw, "cohorts": {"large": raw["cohorts"]["made"], "small": small}})
    records = [
        trial("standard", fold, base=base, only={"accuracy"}, trial=f"{cohort}-{fold}".encode().hex(), provenance=about)
        for cohort, base in (("large", 0.9), ("small", 0.5))
        for about in [{"asked": {"cohort": cohort, "official": False}}]
        for fold in range(3)
    ]
    text = Tags(render(asked, records)).text
    assert "91.0%" in text
    assert "51.0%" in text


def test_audits_that_do_not_hold_together_are_marked(
    render: Callable[..., str], study: MakeStudy, trial: Trial
) -> None:
    asked = study({"private": {"privacy": {"epsilon": 8}}})

    def text(counted: int) -> str:
        row = Measurement(name="epsilon_audited", value=0.5, conditions={"audits": counted})
        return Tags(render(asked, [trial("private", fold, measurements=(row,)) for fold in range(2)])).text

    assert "▲ 2 audits were measured" in text(1)
    assert "audits were measured" not in text(2)


def test_a_given_model_is_not_said_to_be_cross_validated(
    render: Callable[..., str], study: MakeStudy, trial: Trial
) -> None:
    text = Tags(render(study({"given": {}}, split={"folds": 1}, baseline="given"), [trial("given", 0)])).text
    assert "a given model, tested on every record" in text
    assert "its 95 % interval over records" in text
    for words in ("cross-validation", "Significance", "Every comparison", "stand out", "State requirements"):
        assert words not in text


def test_a_page_is_replaced_as_the_study_grows(study: MakeStudy, fill: Fill, trial: Trial, tmp_path: Path) -> None:
    asked = study({"standard": {}})
    store = fill(asked, tmp_path, [])
    publisher = Publisher(asked, store)
    datasets = load_datasets(asked)
    publisher.publish(datasets)
    assert publisher.path == str(tmp_path / "report.html")
    store.write(trial("standard", 0, only={"accuracy"}))
    publisher.publish(datasets)
    assert "1 of 3 trials finished" in Tags(store.read_text("report.html")).text


# The first screen.

REQUIRED: dict[str, Any] = {
    "requirements": [
        "accuracy >= 0.5",
        "sensitivity >= 0.99",
        "loses at most 30 points against standard",
        "worst case at epsilon 0.3 >= 0.1",
        "membership TPR at 10 % FPR <= 50 %",
        "faithfulness > 0",
    ],
    "candidates": ["standard", "private", "fed"],
}


@pytest.fixture(scope="module")
def judged(study: MakeStudy, fill: Fill, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the finished default study, whose requirements were stated before it ran."""
    asked = study(cohort=REQUIRED)
    folder = tmp_path_factory.mktemp("judged")
    register_requirements(asked, Store(str(folder)), load_datasets(asked))
    return write(asked, fill(asked, folder))


def summary_of(page: str) -> str:
    return Tags(page[page.index('<section id="summary"') : page.index("</section>")]).text


def test_the_page_opens_with_the_verdicts(judged: str) -> None:
    assert Tags(judged).all("h2")[0] == {"class": "first"}
    text = summary_of(judged)
    for words in ("accuracy ≥ 50 % met", "not refuted by these attacks", "Holm over 3 candidates", "Stated 20"):
        assert words in text
    for candidate in REQUIRED["candidates"]:
        assert candidate in text
    assert "No candidate" in text
    assert "post hoc" not in text.lower()


def test_what_was_stated_after_the_results_is_marked(render: Callable[..., str], study: MakeStudy) -> None:
    text = summary_of(render(study(cohort=REQUIRED)))
    assert "post hoc" in text
    assert "Post hoc: stated or changed after the first measurement of these records" in text


def test_a_failed_check_speaks_against_a_candidate(judged: str) -> None:
    assert "✖ zero gradients" in summary_of(judged)
    assert "▲ stronger attack" in summary_of(judged)


def test_the_first_table_has_seven_columns_at_most(study: MakeStudy, render: Callable[..., str], trial: Trial) -> None:
    recipes = {f"recipe_{i}": {} for i in range(9)}
    about = {"requirements": ["accuracy >= 0.5"], "candidates": list(recipes)}
    records = [trial(recipe, fold, only={"accuracy"}) for recipe in recipes for fold in range(3)]
    page = render(study(recipes, about), records)
    table = page[page.index('<table class="decisions"') : page.index("</table>")]
    assert len(Tags(table[: table.index("</thead>")]).all("th")) == 7
    assert "Not shown, and no better: recipe_6, recipe_7, recipe_8" in summary_of(page)


def test_without_requirements_the_summary_names_what_stands_out_and_how_to_state_them(page: str) -> None:
    text = summary_of(page)
    assert "No requirements were stated." in text
    assert "standard the baseline" in text
    assert "State requirements and candidates in the study file before the run" in text
    table = page[page.index('<table class="decisions"') : page.index("</table>")]
    assert len(Tags(table[: table.index("</thead>")]).all("th")) <= 7


def test_one_warning_stands_once_with_its_recipes(render: Callable[..., str], study: MakeStudy, trial: Trial) -> None:
    said = "calibrated on the validation split"
    row = Measurement(name="accuracy", value=0.9, warnings=(said,))
    recipes = {f"recipe_{i}": {} for i in range(4)}
    records = [trial(recipe, fold, measurements=(row,)) for recipe in recipes for fold in range(3)]
    text = Tags(render(study(recipes), records)).text
    assert text.count(said) == 1
    assert f"{said} Accuracy all 4" in text


# What a browser makes of it.

SCREEN, PAPER = 1200 + 2 * 28, 1040
"""Widths in CSS pixels: of a window that leaves a table 1200, and of A4 across between its margins."""
DRAWN = """() => {
    const all = [...document.querySelectorAll('.plotly-graph-div')];
    return all.length > 0 && all.every(plot => plot.querySelector('.main-svg'));
}"""
PLOTS = """() => [...document.querySelectorAll('.js-plotly-plot')].map(plot => {
    const box = plot.getBoundingClientRect();
    return [plot.querySelectorAll('.main-svg').length, box.width, box.height];
})"""
"""Of each plot that was drawn: its layers, its width and its height."""
WIDTH = "document.documentElement.scrollWidth"


class Visit:
    """A page as a browser opened it, with everything that it complained of or asked for."""

    def __init__(self, browser: Any, folder: Path, content: str) -> None:
        (folder / "report.html").write_text(content, encoding="utf-8")
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(viewport={"width": SCREEN, "height": 900})
        self.page.set_default_timeout(120_000)  # patience with a busy machine
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", lambda dialog: (self.errors.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.address = (folder / "report.html").as_uri()
        self.page.goto(self.address)
        self.page.wait_for_function(DRAWN)

    def is_sound(self) -> None:
        """Check that the page complained of nothing, asked for nothing but itself, and is no wider than the window."""
        self.page.wait_for_load_state("networkidle")
        assert self.errors == []
        assert self.requests == [self.address]
        assert self.page.evaluate(WIDTH) <= SCREEN

    def plots(self) -> list[tuple[int, float, float]]:
        """Layers, width and height of each plot, of which all are drawn."""
        plots: list[tuple[int, float, float]] = self.page.evaluate(PLOTS)
        assert len(plots) == self.page.locator(".plotly-graph-div").count()
        return plots


Open = Callable[[str], Visit]


@pytest.fixture(scope="module")
def opened(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Open:
    """Opens a page once, for all tests that look at it: most of what a browser does is to read and draw plots.

    A test that changes the window or the medium changes it back.
    """
    return functools.cache(lambda page: Visit(browser, tmp_path_factory.mktemp("visit"), page))


def test_a_browser_draws_everything_and_asks_for_nothing(opened: Open, judged: str) -> None:
    visit = opened(judged)
    visit.is_sound()
    plots = visit.plots()
    assert len(plots) == 9
    assert all(layers >= 1 and width > 300 and height > 100 for layers, width, height in plots)
    headings = [text.strip() for text in visit.page.locator("h1, h2").all_inner_texts()]
    assert headings == [
        "Made up",
        "Summary",
        "Scorecard: patients",
        "Robustness against attack",
        "Privacy against utility",
        "Accuracy at each client",
        "Explanations of single records",
        "Cost",
        "Significance",
        "The claims of the reproduced study and its field",
        "Checks",
        "How it was run",
    ]


OVERLAPS = """() => [...document.querySelectorAll('.js-plotly-plot')].filter(plot => {
    const legend = plot.querySelector('.legend'), bar = plot.querySelector('.modebar');
    if (!legend || !bar) return false;
    const a = legend.getBoundingClientRect(), b = bar.getBoundingClientRect();
    return a.bottom > b.top && b.bottom > a.top;
}).length"""
"""Plots whose tool bar is as high as their legend: a legend of many recipes is as wide as the plot."""


def test_the_summary_fits_a_screen(opened: Open, judged: str) -> None:
    page = opened(judged).page
    page.evaluate("window.scrollTo(0, 0)")
    assert page.evaluate("document.querySelector('#summary').getBoundingClientRect().bottom") <= 900


def test_contents_stay_in_view_and_legends_clear_of_the_tool_bar(opened: Open, judged: str) -> None:
    page = opened(judged).page
    assert page.locator(".js-plotly-plot .legend").count() > 1
    assert page.evaluate(OVERLAPS) == 0
    page.evaluate("document.querySelector('#how').scrollIntoView()")
    top, bottom = page.evaluate("(box => [box.top, box.bottom])(document.querySelector('nav').getBoundingClientRect())")
    assert (top, page.locator("nav").is_visible()) == (0, True)
    page.evaluate("document.querySelector('#made-privacy').scrollIntoView()")
    assert page.evaluate("document.querySelector('#made-privacy').getBoundingClientRect().top") >= bottom - 1


def test_print_holds_whole_figures_and_tables(opened: Open, judged: str) -> None:
    page = opened(judged).page
    page.emulate_media(media="print")
    widths = page.evaluate(
        "[...document.querySelectorAll('.js-plotly-plot .main-svg')].map(one => one.getBoundingClientRect().width)"
    )
    assert 300 < max(widths) <= PAPER
    assert not page.locator("nav").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    page.set_viewport_size({"width": PAPER, "height": 720})
    assert page.evaluate("Math.max(...[...document.querySelectorAll('table')].map(t => t.offsetWidth))") <= PAPER
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": SCREEN, "height": 900})


def test_a_page_fits_a_window_of_800_pixels(opened: Open, judged: str) -> None:
    page = opened(judged).page
    page.set_viewport_size({"width": 800, "height": 900})
    try:
        for _ in range(100):  # plots follow a window a moment later
            if (width := page.evaluate(WIDTH)) <= 800:
                break
            page.wait_for_timeout(100)
        assert width <= 800
    finally:
        page.set_viewport_size({"width": SCREEN, "height": 900})


def test_a_browser_runs_no_word(opened: Open, evil: str) -> None:
    visit = opened(evil)
    visit.is_sound()
    assert visit.page.title() == f"title {EVIL} · Assay"


def test_a_browser_shows_an_unfinished_study(opened: Open, unfinished: str) -> None:
    visit = opened(unfinished)
    visit.is_sound()
    assert len(visit.plots()) == 8
    assert visit.page.locator(".notice").is_visible()


# An official split, with everything that may be measured.


@pytest.fixture(scope="module")
def page_of_seeds(official: Study, seeds: Store) -> str:
    return write(official, seeds)


def test_an_official_split_is_never_called_cross_validation(page_of_seeds: str) -> None:
    text = Tags(page_of_seeds).text.replace(official_settings(page_of_seeds), "")
    assert "official split, 4 seeds" in text
    assert "mean over 4 seeds on the official test records" in text
    assert "With 4 pairs an exact signed-rank test could not go below p = 0.125" in text
    assert "seeds share their test records" in text
    assert "paired by seed" in text
    for words in ("cross-validation", "Nadeau", "fold"):
        assert words not in text


def official_settings(page: str) -> str:
    """The study file at the page's end, which says what was asked, folds and all."""
    text = Tags(page).text
    return text[text.index("The study as run") :]


def test_what_is_trained_on_an_official_split_has_its_cost_and_significance(page_of_seeds: str) -> None:
    tags = Tags(page_of_seeds)
    assert {"#made-cost", "#made-significance"} <= {attributes["href"] for attributes in tags.all("a")}
    assert "What the recipes are" in tags.text


def only_accuracy(records: list[TrialRecord]) -> list[TrialRecord]:
    return [replace(r, measurements=tuple(m for m in r.measurements if m.name == "accuracy")) for r in records]


def test_one_seed_says_what_it_does_not_know(
    render: Callable[..., str], study: MakeStudy, of_seeds: list[TrialRecord]
) -> None:
    first = only_accuracy([record for record in of_seeds if record.repeat == 0])
    text = Tags(render(study(split={"folds": 1, "repeats": 1}), first)).text
    assert "official split, 1 seed" in text
    assert "how much another seed would change it is not known" in text
    assert "signed-rank" not in text


def test_shift_and_fail_safe_have_their_sections_where_they_were_measured(page: str, page_of_seeds: str) -> None:
    for key in ("shift", "fail-safe"):
        assert f'id="made-{key}"' in page_of_seeds
        assert f'href="#made-{key}"' in page_of_seeds
        assert f'id="made-{key}"' not in page
        assert f'href="#made-{key}"' not in page
    text = Tags(page_of_seeds).text
    for words in ("Corruption error", "Abstains (risk ≤ 5 %)", "Conformal coverage (≥ 90 %)", "F1"):
        assert words in text


def test_every_link_of_the_whole_page_leads_somewhere_in_order(page_of_seeds: str) -> None:
    tags = Tags(page_of_seeds)
    places = [attributes["id"] for _, attributes in tags.tags if attributes.get("id", "").startswith("made")]
    links = [attributes["href"].removeprefix("#") for attributes in tags.all("a") if "made" in attributes["href"]]
    in_nav = links[: links.index("made-checks") + 1]
    assert in_nav == [place for place in places if place in in_nav]
    assert set(links) <= set(places)


def test_a_study_of_two_kinds_says_which_cohort_is_which(
    official: Study, of_seeds: list[TrialRecord], trial: Trial, fill: Fill, tmp_path: Path
) -> None:
    made = official.cohorts["made"]
    split = official.split.model_copy(update={"folds": 2})
    both = official.model_copy(update={"cohorts": {"made": made, "folds": made}, "split": split})
    about = {"asked": {"cohort": "folds", "official": False}}
    folds = [trial("standard", fold, provenance=about) for fold in range(2)]
    store = fill(both, tmp_path, only_accuracy([*of_seeds, *folds]))
    text = Tags(write(both, store)).text
    assert "Official split, 4 seeds. Each figure is the mean over 4 seeds" in text
    assert "2-fold cross-validation, 4 repeats. Each figure is the mean over test folds" in text


def test_a_browser_draws_shift_and_fail_safe(opened: Open, page_of_seeds: str) -> None:
    visit = opened(page_of_seeds)
    visit.is_sound()
    assert len(visit.plots()) == 13
    assert_tables_fit(visit)


def assert_tables_fit(visit: Visit) -> None:
    """Check that every group of the scorecard takes at most 1200 pixels."""
    tables = "[...document.querySelectorAll('table.scorecard')].map(table => table.offsetWidth)"
    widths = visit.page.evaluate(tables)
    assert len(widths) >= 2
    assert max(widths) <= 1200


# Attacks, certificates and poison.


@pytest.fixture(scope="module")
def page_of_arsenal(armed: Study, arsenal: Store) -> str:
    return write(armed, arsenal)


def test_every_attack_and_every_reason_is_there(page_of_arsenal: str) -> None:
    text = Tags(page_of_arsenal).text
    for words in ("pgd 100x5", "apgd dlr", "autoattack", "deepfool, median distance (L2)", "adversarial patch, 5 % of"):
        assert words in text
    assert "collision, transfer: there is no surrogate" in text
    assert "The certificate holds for this model." in text
    assert "The certificate holds for the smoothed model." in text
    assert "Without one: standard (no bound is known)." in text
    assert "no adaptive attack was run" in text


def test_both_figures_of_a_suspicion_are_there(page_of_arsenal: str) -> None:
    (row,) = re.findall(r"<tr>(?:(?!</tr>).)*zero gradients</td><td>0\.3</td>.*?</tr>", page_of_arsenal, re.DOTALL)
    assert "43.0% " in row
    assert "21.5% " in row
    assert "pgd straight through 21.5 %" in row


def test_sections_of_the_arsenal_stand_in_the_order_of_their_links(page_of_arsenal: str, page: str) -> None:
    tags = Tags(page_of_arsenal)
    places = [attributes["id"] for tag, attributes in tags.tags if tag == "h2" and "id" in attributes]
    links = [attributes["href"].removeprefix("#") for attributes in tags.all("a")]
    assert [place for place in places if place in links] == [link for link in dict.fromkeys(links) if link in places]
    assert "made-poisoning" in places
    assert "made-poisoning" not in page


def test_a_browser_draws_the_arsenal(opened: Open, page_of_arsenal: str) -> None:
    visit = opened(page_of_arsenal)
    visit.is_sound()
    assert len(visit.plots()) == 10
    assert_tables_fit(visit)


def test_costs_of_budgets_and_the_interaction_are_told_where_a_study_has_them(
    study: MakeStudy, render: Callable[..., str], trial: Trial, page: str
) -> None:
    pgd = {"objective": {"name": "pgd", "epsilon": 0.3}}
    recipes = {
        "standard": {},
        "pgd": pgd,
        "private": {"privacy": {"epsilon": 8}},
        "private_pgd": {"privacy": {"epsilon": 8}, **pgd},
        "private_1": {"privacy": {"epsilon": 1}},
    }
    # A wobble of its own for each: contrasts that are the same in every fold could not be tested.
    records = [
        trial(recipe, fold, base=0.7 + len(recipe) / 50 + ((fold + 1) * len(recipe) % 3) / 100)
        for recipe in recipes
        for fold in range(3)
    ]
    told = Tags(render(study(recipes), records)).text
    for words in (
        "Adversarial and private training together",
        "Alone, adversarial training changes it by",
        "What each budget costs",
        "Against the most accurate training without privacy on these records, whatever its model",
    ):
        assert words in told
        assert words not in Tags(page).text
    assert "also train otherwise" not in told  # these four differ by their two factors alone
    assert "one run allows no test" not in told
