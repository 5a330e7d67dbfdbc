"""How fast is the dashboard in a browser without a GPU? First paint, a brush by the mouse, news, and memory.

100,000 made-up trials lie in a store as a sweep writes them; the server is the job that users start. A million are
handed to the server without files, because the store is not what is measured there. A brush is dragged by the mouse,
and each time is from the mouse's event to the end of the picture in which densities, front and table show the new
selection.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from assay.errors import UserError
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from assay.store.progress import ProgressFile
from tests.dashboard.made import about, each, fill, name_of, points

TRIALS, MANY = 100_000, 1_000_000
STEPS, RUNS = 60, 3
RATE, SECONDS = 50, 10
LIMITS = {"first_paint": 1.5, "brush": 0.150, "brush_of_a_million": 0.300, "news": 1.0, "memory_mb": 300}
"""Seconds, and megabytes."""
TOKEN = "a-token-for-the-benchmark-alone"
FLAGS = ["--no-sandbox", "--disable-gpu", "--force-device-scale-factor=1"]
_ROOT = Path(__file__).parents[2]
_MANY = """
import sys, tempfile
from pathlib import Path
import uvicorn
from assay.dashboard.app import create_app
from assay.dashboard.live import Live
from assay.store.rows import MEASUREMENT_SCHEMA
from tests.dashboard.made import changes
count, piece, token = int(sys.argv[1]), 50_000, sys.argv[2]
folder = Path(tempfile.mkdtemp())
(folder / "made" / "trials").mkdir(parents=True)
live = Live([str(folder)])
live.folders[0].rows = lambda place: MEASUREMENT_SCHEMA.empty_table()
for first in range(0, count, piece):
    live.trials.take(0, changes(min(piece, count - first), seed=first, first=first))
app = create_app(live, token=token, port=8061)
print("http://localhost:8061/?token=", flush=True)
uvicorn.run(app, port=8061, log_level="warning", access_log=False)
"""
_WATCH = """() => {
  window.times = [];
  window.addEventListener("pointermove", () => {
    const began = performance.now();
    const end = () => window.times.push(performance.now() - began);
    requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(end)));
  }, true);
}"""
_TEN_AXES = """() => {
  const { board } = window.assay;
  board.setAxes([...new Set([...board.view.axes, "state", "seconds", "privacy.delta"])].slice(0, 10));
}"""
_COUNT = """() => {
  window.counts = [];
  new MutationObserver(() => window.counts.push([Date.now() / 1000, window.assay.board.table.count]))
    .observe(document.body, { attributes: true, attributeFilter: ["data-version"] });
}"""


def measure() -> dict[str, Any]:
    """The five figures, and the limit over each."""
    with tempfile.TemporaryDirectory() as folder, _browser() as browser:
        store = Path(folder) / "results" / "sweep"
        began = time.perf_counter()
        fill(store, TRIALS)
        filled = time.perf_counter() - began
        with _job(store) as (address, server, started):
            paints = [_first_paint(browser, address) for _ in range(RUNS)]
            brushes = _brushed(browser, address)
            delays = _news(browser, address, store)
            memory = _memory(server)
        with _server([sys.executable, "-c", _MANY, str(MANY), TOKEN]) as (address, server, _):
            million = _brushed(browser, address)
    p95 = {name: float(np.percentile(times, 95)) for name, times in (("brush", brushes), ("million", million))}
    ours = {
        "first_paint": min(paints), "brush": p95["brush"], "brush_of_a_million": p95["million"],
        "news": float(np.percentile(delays, 95)), "memory_mb": memory,
    }  # fmt: skip
    return {
        "unit": f"seconds; {TRIALS:,} trials, then {MANY:,}; 95th percentile of {STEPS} steps of a brush; megabytes",
        "ours": {name: round(value, 3) for name, value in ours.items()},
        "limits": LIMITS,
        "more": {
            "first_paints": [round(paint, 3) for paint in paints], "longest_brush": round(max(brushes), 3),
            "longest_brush_of_a_million": round(max(million), 3), "longest_news": round(max(delays), 3),
            "start_of_the_server": round(started, 1), "made_in": round(filled, 1),
        },
        "ratio": {name: round(LIMITS[name] / value, 2) for name, value in ours.items()},
        "bar": dict.fromkeys(ours, 1.0),
    }  # fmt: skip


@contextmanager
def _browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        raise UserError("this benchmark needs chromium on the PATH", setting="PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def _server(command: list[str]) -> Iterator[tuple[str, int, float]]:
    """Starts a server; returns the address that it prints, its process, and the seconds until then."""
    paths = f"{_ROOT / 'platform'}:{_ROOT}"
    environment = {**os.environ, "PYTHONPATH": paths, "ASSAY_DASHBOARD_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=_ROOT) as process:
        assert process.stdout is not None
        address = ""
        while not address:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the server ended before it printed its address")
            address = next(iter(re.findall(r"http://\S+=", line)), "")
        time.sleep(1)
        try:
            yield address + TOKEN, process.pid, time.perf_counter() - began - 1
        finally:
            process.terminate()


def _job(store: Path) -> Any:
    return _server([sys.executable, "-m", "jobs.dashboard", "--results", str(store.parent), "--port", "8060"])


def _open(browser: Any, address: str) -> Any:
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.goto(address)
    page.wait_for_selector("body[data-ready]", timeout=120_000)
    return page


def _first_paint(browser: Any, address: str) -> float:
    """Seconds from the request to the end of the first picture of densities."""
    page = _open(browser, address)
    page.wait_for_timeout(500)
    seconds = float(page.evaluate("window.assay.parallel.first")) / 1000
    page.close()
    return seconds


def _brushed(browser: Any, address: str) -> list[float]:
    """Seconds from each step of the mouse to the end of the picture, with ten axes."""
    page = _open(browser, address)
    page.evaluate(_TEN_AXES)
    assert page.evaluate("window.assay.board.view.axes.length") == 10
    page.wait_for_timeout(1500)
    box = page.locator('rect[data-brush="accuracy"]').bounding_box()
    x, top, height = box["x"] + box["width"] / 2, box["y"] + 10, box["height"] - 20
    page.mouse.move(x, top)
    page.mouse.down()
    page.mouse.move(x, top + 0.1 * height)
    page.wait_for_timeout(500)
    page.evaluate(_WATCH)
    for step in range(STEPS):
        page.mouse.move(x, top + height * (0.15 + 0.8 * step / STEPS))
        page.wait_for_timeout(30)
    page.mouse.up()
    page.wait_for_timeout(1000)
    times = page.evaluate("window.times")
    assert len(times) >= STEPS
    assert 0 < page.evaluate("window.assay.board.kept") < page.evaluate("window.assay.board.total")
    page.close()
    return [one / 1000 for one in times[:STEPS]]


def _news(browser: Any, address: str, store: Path) -> list[float]:
    """Seconds from the write of each trial until the page counts it, at ``RATE`` trials a second."""
    page = _open(browser, address)
    before = page.evaluate("window.assay.board.table.count")
    page.evaluate(_COUNT)
    written = []
    with _locked(store) as results:
        # As a job does: it tells its progress too.
        progress = ProgressFile(str(store))
        progress.begin(total=before + RATE * SECONDS, finished=before, workers=2)
        page.wait_for_timeout(3000)
        began = time.time()
        for number, point in enumerate(each(points(RATE * SECONDS, seed=1))):
            while time.time() < began + number / RATE:
                page.wait_for_timeout(1)
            record = _trial(point, before + number)
            results.write(record)
            written.append(time.time())
            progress.done(record, "made", seconds_left=1.0, workers=2)
        progress.end()
    page.wait_for_timeout(2000)
    counts = page.evaluate("window.counts")
    page.close()
    seen = [next(at for at, count in counts if count >= before + number + 1) for number in range(len(written))]
    return [max(0.0, at - then) for at, then in zip(seen, written, strict=True)]


@contextmanager
def _locked(store: Path) -> Iterator[Store]:
    results = Store(str(store))
    with results.locked():
        yield results


def _trial(point: dict[str, Any], number: int) -> TrialRecord:
    figures = (
        Measurement(name="accuracy", value=0.9, n=114),
        Measurement(name="training_seconds", value=1.0, unit="seconds"),
    )
    return TrialRecord(
        trial=name_of(number), dataset="made", model="mlp", recipe=f"point-{number}", fold=0, repeat=0,
        measurements=figures, provenance=about(point, number),
    )  # fmt: skip


def _memory(process: int) -> float:
    """Resident megabytes of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]
