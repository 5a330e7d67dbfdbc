"""The page's own arithmetic, asked in the browser: cells, brushes, counts, scales, fronts, and the address."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.dashboard.conftest import Server

Ask = Callable[..., Any]


def known(values: list[Any]) -> list[Any]:
    """Values with None for NaN, which JSON does not have."""
    return [None if isinstance(one, float) and np.isnan(one) else one for one in values]


@pytest.fixture(scope="module")
def ask(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """``ask("module.js", "body that returns", **values)``: calls a module of the page; arrays become float32."""
    server = Server(tmp_path_factory.mktemp("none"))
    page = browser.new_page()
    page.goto(server.address)

    def call(module: str, body: str, **values: Any) -> Any:
        given = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}
        plain = {name: known(value) if isinstance(value, list) else value for name, value in given.items()}
        names = ", ".join(values)
        script = (
            "async (given) => { const f32 = (list) => Float32Array.from(list, (one) => one ?? NaN);"
            f"const m = await import('/static/{module}'); const {{ {names} }} = given; {body} }}"
        )
        return page.evaluate(script, plain)

    yield call
    page.close()
    server.stop()


@pytest.fixture
def values() -> np.ndarray:
    draw = np.random.default_rng(0)
    found = draw.lognormal(0, 2, 400).astype(np.float32)
    found[::7] = np.nan
    return found


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("flip", [False, True])
def test_cells_divide_an_axis_evenly_and_missing_values_have_their_own(
    ask: Ask, values: np.ndarray, log: bool, flip: bool
) -> None:
    cells = np.array(ask("bins.js", """
        const axes = await import('/static/axes.js');
        const column = { kind: 'number', group: 'setting', values: f32(values) };
        const scale = axes.scaleOf(column, values.length, { log, flip });
        return [...m.cellsOf(f32(values), values.length, scale)];""", values=values, log=log, flip=flip))  # fmt: skip
    shown = np.log10(values) if log else values.astype(float)
    low, high = np.nanmin(shown), np.nanmax(shown)
    place = (shown - low) / (high - low)
    expected = np.clip(np.floor((1 - place if flip else place) * 96), 0, 95)
    known = ~np.isnan(values)
    assert (cells[~known] == 96).all()
    assert np.abs(cells[known] - expected[known]).max() <= 1
    assert (cells[known] == expected[known]).mean() > 0.98


def test_a_brush_keeps_what_lies_between_its_ends(ask: Ask, values: np.ndarray) -> None:
    low, high = 0.3, float(values[1])
    kept = np.array(ask("bins.js", """
        const failed = new Int32Array(values.length);
        m.applyBrush(failed, 3, f32(values), values.length, { range: [low, high] });
        return [...failed].map((one) => one === 0);""", values=values, low=low, high=high))  # fmt: skip
    np.testing.assert_array_equal(kept, (values >= np.float32(low)) & (values <= np.float32(high)))


def test_brushes_do_not_disturb_each_other(ask: Ask, values: np.ndarray) -> None:
    flags = ask("bins.js", """
        const failed = new Int32Array(values.length);
        m.applyBrush(failed, 0, f32(values), values.length, { range: [0, 1] });
        m.applyBrush(failed, 1, f32(values), values.length, { missing: true });
        const both = [...failed];
        m.applyBrush(failed, 0, f32(values), values.length, null);
        return [both, [...failed]];""", values=values)  # fmt: skip
    first = ~((values >= 0) & (values <= 1))
    second = ~np.isnan(values)
    np.testing.assert_array_equal(flags[0], first * 1 + second * 2)
    np.testing.assert_array_equal(flags[1], second * 2)


def test_counts_that_follow_changes_equal_counts_anew(ask: Ask) -> None:
    draw = np.random.default_rng(1)
    left, right = (draw.integers(0, 97, 500) for _ in range(2))
    steps = [(draw.random(500) < share).astype(int) for share in (0.2, 0.8, 0.5, 1.0, 0.0)]
    counts = ask("bins.js", """
        const pair = m.pairsOf(Uint8Array.from(left), Uint8Array.from(right), left.length);
        const [was, came, went] = [new Uint8Array(500), new Uint32Array(501), new Uint32Array(501)];
        const counts = [new Uint32Array(m.SIDE * m.SIDE)];
        return steps.map((failed) => {
          const [plus, minus] = m.changedRows(Int32Array.from(failed), was, 500, came, went);
          m.addRows(came, plus, [pair], counts);
          m.addRows(went, minus, [pair], counts, -1);
          return [...counts[0]];
        });""", left=left, right=right, steps=[step.tolist() for step in steps])  # fmt: skip
    for found, failed in zip(counts, steps, strict=True):
        expected = np.zeros((97, 97), int)
        np.add.at(expected, (left[failed == 0], right[failed == 0]), 1)
        np.testing.assert_array_equal(np.array(found).reshape(97, 97), expected)


def best_of(goals: list[np.ndarray], selected: np.ndarray) -> list[int]:
    """The front by its definition."""
    table = np.stack(goals, 1)
    rows = [n for n in range(len(table)) if selected[n] and not np.isnan(table[n]).any()]
    at_least = lambda m, n: (table[m] >= table[n]).all() and (table[m] > table[n]).any()
    return [n for n in rows if not any(at_least(m, n) for m in rows)]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("ties", [5, 100_000])
def test_the_front_is_what_nothing_else_is_better_than(ask: Ask, count: int, ties: int) -> None:
    draw = np.random.default_rng(count)
    goals = [np.round(draw.random(200) * ties).astype(np.float32) for _ in range(count)]
    for goal in goals:
        goal[draw.random(200) < 0.1] = np.nan
    selected = draw.random(200) < 0.7
    signs = [1, -1, 1][:count]
    found = ask("pareto.js", """
        const each = goals.map((values, n) => ({ values: f32(values), sign: signs[n] }));
        return m.front(m.inOrder(each, 200), Int32Array.from(selected, (one) => (one ? 0 : 1)));""",
        goals=[known(goal.tolist()) for goal in goals], signs=signs, selected=selected)  # fmt: skip
    assert sorted(found) == best_of([goal * sign for goal, sign in zip(goals, signs, strict=True)], selected)


def test_values_sort_as_numbers_do(ask: Ask) -> None:
    values = np.array([0.0, -1.5, 3e-38, -0.0, 1e30, -1e-30, np.nan, 2.0, -3e30], np.float32)
    found = ask("pareto.js", "return [...m.orderBy(f32(values), values.length, 1)];", values=values)
    known = [n for n in found if not np.isnan(values[n])]
    assert len(found) == len(known) == 8
    assert values[known].tolist() == sorted(values[known].tolist(), reverse=True)


def test_the_address_keeps_any_view(ask: Ask) -> None:
    view = {
        "axes": ["objective.epsilon", "a,b&c=d#e"], "flip": ["a,b&c=d#e"], "goals": ["worst_case:linf:0.3", "accuracy"],
        "chosen": ["0123abc"], "log": {"objective.epsilon": False}, "open": "0123abc", "sort": "-accuracy",
        "brushes": {
            "accuracy": {"range": [0.1, 1e-7]}, "recipe": {"names": ["a|b", "~c..d", "none", "ε ≤ 1"], "missing": True},
            "epsilon": {"missing": True},
        },
    }  # fmt: skip
    assert ask("state.js", "return m.fromHash('#' + m.toHash(view));", view=view) == view


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.871, 0.953), (1, 1), (-5, 1e6)])
def test_ticks_are_round_and_within_the_axis(ask: Ask, low: float, high: float) -> None:
    ticks = ask("axes.js", "return m.niceTicks(low, high);", low=low, high=high)
    assert 1 <= len(ticks) <= 11
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)
    assert ticks == sorted(ticks)


def test_names_stand_in_order_and_go_to_their_places(ask: Ask) -> None:
    names = ["b", "10", "a", "9"]
    places = ask("axes.js", """
        const scale = m.scaleOf({ kind: 'category', names }, 0, {});
        const places = names.map((_, code) => scale.place(code));
        return places.map((place) => [place, scale.value(place)]);""", names=names)  # fmt: skip
    assert [names[code] for code in np.argsort([place for place, _ in places])] == ["9", "10", "a", "b"]
    assert [code for _, code in places] == [0, 1, 2, 3]


def test_every_file_of_the_page_is_short(tmp_path: Path) -> None:
    import assay.dashboard

    files = list((Path(assay.dashboard.__file__).parent / "static").glob("*.js"))
    assert len(files) > 10
    assert [file.name for file in files if len(file.read_text().splitlines()) > 300] == []


@pytest.mark.parametrize(
    ("codes", "failed", "several"),
    [
        ([0, 0, 1], [0, 0, 0], True),
        ([0, 0, 1], [0, 0, 2], False),
        ([1, 0, 0], [0, 4, 0], True),
        ([1, 0, 0], [1, 1, 1], False),
        ([], [], False),
    ],
)
def test_selected_trials_of_several_data_sets_have_no_front(
    ask: Ask, codes: list[int], failed: list[int], several: bool
) -> None:
    body = "return m.severalNames({ values: f32(codes) }, Int32Array.from(failed), codes.length);"
    assert ask("bins.js", body, codes=codes, failed=failed) is several
