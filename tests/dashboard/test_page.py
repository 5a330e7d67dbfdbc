"""The page in a browser, by real drags of the mouse: brushes, axes, records, news, and the view in the address."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from assay.store.progress import ProgressFile
from tests.dashboard.conftest import Server
from tests.dashboard.made import fill, name_of, points

COUNT = 300
LOOKS = Path(__file__).with_name("looks.js").read_text()
DRAWN = points(COUNT)


class Visit:
    """A page as a browser opened it, with everything that it complained of or asked for elsewhere."""

    def __init__(self, browser: Any, address: str, **about: Any) -> None:
        self.errors: list[str] = []
        self.page = browser.new_page(**{"viewport": {"width": 1400, "height": 1000}, **about})
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "request", lambda request: self.errors.append(request.url) if "localhost" not in request.url else None
        )
        self.page.goto(address)
        self.ready()

    def ready(self) -> None:
        self.page.wait_for_selector("body[data-ready]")
        self.settled()

    def settled(self) -> None:
        """Waits until everything that follows from the last event is drawn."""
        wait = "let n = 4; const next = () => (n-- ? requestAnimationFrame(next) : done()); next();"
        self.page.evaluate(f"() => new Promise((done) => {{ {wait} }})")

    def ask(self, what: str) -> Any:
        return self.page.evaluate(f"window.assay.{what}")

    @property
    def kept(self) -> int:
        return int(self.ask("board.kept"))

    def brush(self, key: str, start: float, end: float) -> None:
        """Drags along an axis, from one share of its height to another, from below."""
        box = self.page.locator(f'rect[data-brush="{key}"]').bounding_box()
        x, at = box["x"] + box["width"] / 2, lambda share: box["y"] + 6 + (1 - share) * (box["height"] - 12)
        self.page.mouse.move(x, at(start))
        self.page.mouse.down()
        self.page.mouse.move(x, at((start + end) / 2), steps=3)
        self.page.mouse.move(x, at(end), steps=3)
        self.page.mouse.up()
        self.settled()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one made-up sweep, which tests only read."""
    folder = tmp_path_factory.mktemp("made")
    fill(folder / "sweep", COUNT)
    server = Server(folder)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def opened(made: Server, browser: Any) -> Iterator[Visit]:
    found = Visit(browser, made.address)
    yield found
    found.page.close()


@pytest.fixture
def visit(opened: Visit) -> Iterator[Visit]:
    """The page of the sweep as it is when it is opened; opening it anew for each test would take half of their time."""
    blank = "axes: [], flip: [], goals: [], chosen: [], log: {}, brushes: {}, open: '', sort: ''"
    opened.page.evaluate(f"document.querySelector('dialog').close(); Object.assign(assay.board.view, {{ {blank} }})")
    opened.page.evaluate("() => { assay.board.refresh(); assay.board.setChosen([]); scrollTo(0, 0); }")
    opened.settled()
    yield opened
    assert opened.errors == []


def within(key: str, low: float, high: float) -> int:
    values = DRAWN[key].astype(np.float32)
    return int(((values >= np.float32(low)) & (values <= np.float32(high))).sum())


def test_the_page_shows_every_trial_and_hides_its_token(visit: Visit) -> None:
    assert visit.kept == COUNT
    assert "token" not in visit.page.url
    assert f"{COUNT} trials of {COUNT} selected" in visit.page.inner_text("#kept")
    axes = visit.ask("board.view.axes")
    assert {"objective.epsilon", "training.learning_rate", "privacy.epsilon", "accuracy", "epsilon"} <= set(axes)
    assert "training.epochs" not in axes


def test_a_brush_selects_exactly_what_lies_in_it_and_a_click_clears_it(visit: Visit) -> None:
    visit.brush("accuracy", 0.5, 0.9)
    low, high = visit.ask("board.view.brushes['accuracy'].range")
    assert 0 < visit.kept < COUNT
    assert visit.kept == within("accuracy", low, high)
    assert visit.page.locator("#table tbody tr[data-row]").count() > 0
    box = visit.page.locator('rect[data-brush="accuracy"]').bounding_box()
    visit.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] - 20)
    visit.settled()
    assert visit.kept == COUNT


def test_a_brush_can_be_moved_and_widened(visit: Visit) -> None:
    visit.brush("accuracy", 0.3, 0.5)
    before = visit.ask("board.view.brushes['accuracy'].range")
    visit.brush("accuracy", 0.4, 0.7)
    moved = visit.ask("board.view.brushes['accuracy'].range")
    assert moved[1] - moved[0] == pytest.approx(before[1] - before[0], rel=0.02)
    assert moved[0] > before[1] * 0.99
    visit.brush("accuracy", 0.8, 0.95)
    wider = visit.ask("board.view.brushes['accuracy'].range")
    assert wider[0] == pytest.approx(moved[0])
    assert wider[1] > moved[1]


def test_brushes_on_two_axes_hold_together(visit: Visit) -> None:
    visit.brush("accuracy", 0.4, 1)
    one = visit.kept
    visit.brush("objective.epsilon", 0.0, 0.3)
    (a, b), (c, d) = (visit.ask(f"board.view.brushes['{key}'].range") for key in ("accuracy", "objective.epsilon"))
    both = [
        (a <= x <= b) and (c <= e <= d)
        for x, e in zip(DRAWN["accuracy"].astype(np.float32), DRAWN["objective.epsilon"], strict=True)
    ]
    assert visit.kept == sum(both) < one


def test_trials_without_a_value_are_never_dropped(visit: Visit) -> None:
    missing = int(np.isnan(DRAWN["epsilon"]).sum())
    visit.page.locator('rect[data-none="epsilon"]').click()
    visit.settled()
    assert visit.kept == missing
    visit.page.locator('rect[data-none="epsilon"]').click()
    visit.settled()
    assert visit.kept == COUNT


def test_the_view_is_in_the_address_and_a_reload_keeps_it(visit: Visit) -> None:
    visit.brush("accuracy", 0.5, 0.9)
    visit.page.locator("#table tbody input").first.check()
    visit.settled()
    before, address = visit.kept, visit.page.url
    view = visit.ask("board.view")
    visit.page.reload()
    visit.ready()
    assert visit.kept == before
    assert visit.page.url == address
    assert visit.ask("board.view") == view
    assert visit.ask("parallel.actions.chosenRows()[0]") >= 0


def test_an_axis_is_moved_by_its_title_and_has_a_menu(visit: Visit) -> None:
    axes = visit.ask("board.view.axes")
    first = visit.page.locator(f'.head[data-axis="{axes[0]}"] button').bounding_box()
    third = visit.page.locator(f'.head[data-axis="{axes[2]}"] button').bounding_box()
    visit.page.mouse.move(first["x"] + 10, first["y"] + 10)
    visit.page.mouse.down()
    visit.page.mouse.move(third["x"] + third["width"], third["y"] + 10, steps=5)
    visit.page.mouse.up()
    visit.settled()
    assert visit.ask("board.view.axes")[:3] == [axes[1], axes[2], axes[0]]
    visit.page.locator('.head[data-axis="accuracy"] button').click()
    visit.page.get_by_role("menuitem", name="Turn upside down").click()
    visit.settled()
    assert visit.ask("board.view.flip") == ["accuracy"]
    assert visit.page.evaluate(
        "(({board}) => board.scale('accuracy').place(1) < board.scale('accuracy').place(0))(window.assay)"
    )


def test_the_keyboard_reaches_everything(visit: Visit) -> None:
    visit.page.locator("#fields summary").press("Enter")
    field = visit.page.get_by_label("Accuracy, at least")
    field.fill("0.9")
    field.press("Tab")
    visit.settled()
    assert visit.kept == within("accuracy", 0.9, 1)
    visit.page.locator('.head[data-axis="accuracy"] .title').press("Enter")
    visit.page.keyboard.press("ArrowDown")
    visit.page.keyboard.press("ArrowDown")
    visit.page.keyboard.press("Escape")
    assert visit.page.evaluate("document.activeElement.closest('.head').dataset.axis") == "accuracy"
    visit.page.locator("#table .link").first.press("Enter")
    visit.page.wait_for_selector("dialog[open] table")
    visit.page.keyboard.press("Escape")
    assert not visit.page.locator("dialog[open]").count()


def test_a_click_leads_to_the_record_of_the_trial(visit: Visit) -> None:
    visit.page.locator("#table .link").first.click()
    visit.page.wait_for_selector("dialog[open] h3")
    text = visit.page.inner_text("dialog")
    assert "Settings" in text
    assert "learning rate" in text
    assert f"open={name_of(0)[:8]}" in visit.page.url


def test_a_sweep_chosen_on_validation_says_why_there_is_no_test(visit: Visit) -> None:
    boxes = visit.page.locator("#table tbody input")
    boxes.nth(0).check()
    boxes.nth(1).check()
    visit.page.locator("#compare").click()
    visit.page.wait_for_selector("#no-test")
    assert "validation records" in visit.page.inner_text("#no-test")


def test_the_front_is_that_of_the_selected_trials(visit: Visit) -> None:
    visit.brush("accuracy", 0.2, 0.8)
    low, high = visit.ask("board.view.brushes['accuracy'].range")
    goals = visit.ask("board.view.goals")
    assert goals[0] == "accuracy"
    radius = float(goals[1].split(":")[2])
    values = np.stack([DRAWN["accuracy"], DRAWN["worst_case"] * (1 - radius)], 1).astype(np.float32)
    rows = [n for n in range(COUNT) if low <= values[n, 0] <= high]
    better = lambda m, n: (values[m] >= values[n]).all() and (values[m] > values[n]).any()
    best = [n for n in rows if not any(better(m, n) for m in rows)]
    assert sorted(visit.ask("board.front")) == best


def looks(visit: Visit, root: str = "document.body") -> dict[str, Any]:
    """What a reader could not read, and the number of texts that were looked at; see ``looks.js``."""
    found: dict[str, Any] = visit.page.evaluate(f"({LOOKS})({root})")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [800, 1600])
def test_everything_is_in_the_window_readable_and_apart(made: Server, browser: Any, width: int, scheme: str) -> None:
    visit = Visit(browser, made.address, viewport={"width": width, "height": 1000}, color_scheme=scheme)
    assert visit.page.evaluate("document.documentElement.dataset.theme") == scheme
    page = looks(visit)
    assert page.pop("texts") > 100 and page == {"outside": [], "faint": [], "overlapping": []}
    visit.page.locator("#table .link").first.click()
    visit.page.wait_for_selector("dialog[open] h3")
    record = looks(visit, "document.querySelector('dialog[open]')")
    assert record.pop("texts") > 20 and record == {"outside": [], "faint": [], "overlapping": []}
    assert visit.errors == []
    visit.page.close()


def test_a_fault_of_the_looks_would_be_found(made: Server, browser: Any) -> None:
    visit = Visit(browser, made.address, viewport={"width": 800, "height": 1000}, color_scheme="light")
    for fault, where, key, value in (
        ("outside", "#where", "min-width", "900px"),
        ("faint", ":root", "--soft", "#9fa9b3"),
        ("overlapping", "#parallel-title", "margin-right", "-60px"),
    ):
        change = "([where, key, value]) => document.querySelector(where).style.setProperty(key, value)"
        visit.page.evaluate(change, [where, key, value])
        visit.settled()
        assert looks(visit)[fault], fault
        visit.page.evaluate(change, [where, key, ""])
        visit.settled()
    page = looks(visit)
    assert page.pop("texts") > 100 and page == {"outside": [], "faint": [], "overlapping": []}
    visit.page.close()


@pytest.fixture
def growing(tmp_path: Path, serve: Callable[..., Server]) -> tuple[Path, Server]:
    """A store with some trials that a test adds to."""
    fill(tmp_path / "sweep", 20)
    return tmp_path / "sweep", serve(tmp_path)


def add(folder: Path, *numbers: int) -> None:
    store = Store(str(folder))
    with store.locked():
        for number in numbers:
            asked = {"recipe": {"objective": {"name": "pgd", "epsilon": 0.1}}, "cohort": "made"}
            accuracy = Measurement(name="accuracy", value=0.5, n=10)
            labels = {"dataset": "made", "model": "mlp", "recipe": f"point-{number}", "fold": 0, "repeat": 0}
            record = TrialRecord(trial=name_of(number), measurements=(accuracy,), provenance={"asked": asked}, **labels)
            store.write(record)


def seen(visit: Visit, count: int, patience: float = 15) -> None:
    """Waits until a page counts so many trials."""
    end = time.monotonic() + patience
    while visit.ask("board.table.count") != count:
        assert time.monotonic() < end, visit.ask("board.table.count")
        visit.page.wait_for_timeout(50)


def test_new_trials_come_to_all_pages_and_keep_the_selection(growing: tuple[Path, Server], browser: Any) -> None:
    folder, server = growing
    progress = ProgressFile(str(folder))
    progress.begin(total=30, finished=20, workers=2)
    progress.started("made · point-20 · fold 1")
    server.live.folders[0]._next = 0
    first, second = Visit(browser, server.address), Visit(browser, server.address)
    first.brush("accuracy", 0.5, 1)
    kept = first.kept
    add(folder, 20, 21, 22)
    for visit in (first, second):
        seen(visit, 23)
    first.page.wait_for_selector("text=Under way: made · point-20 · fold 1")
    assert "20 of 30" in first.page.inner_text("#runs") or "23 of 30" in first.page.inner_text("#runs")
    assert first.page.inner_text("#said") == "3 new trials"
    assert first.kept == kept
    assert second.kept == 23
    progress.end()
    for visit in (first, second):
        visit.page.close()
        assert visit.errors == []


def test_a_page_goes_on_when_its_server_comes_back(
    growing: tuple[Path, Server], browser: Any, serve: Callable[..., Server]
) -> None:
    folder, server = growing
    visit = Visit(browser, server.address)
    visit.brush("objective.epsilon", 0, 0.5)
    kept = visit.kept
    server.stop()
    visit.page.wait_for_selector("#connection.away")
    add(folder, 20)
    serve(folder.parent, server.port)
    visit.page.wait_for_selector("#connection.live", timeout=15_000)
    seen(visit, 21)
    assert visit.kept in (kept, kept + 1)
    visit.page.close()
