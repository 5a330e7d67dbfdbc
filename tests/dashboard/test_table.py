"""The table holds every trial once, stores what varies, and says what changed."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import assay.evaluations  # noqa: F401  (it registers their metrics)
from assay.dashboard.columns import Column
from assay.dashboard.headlines import HEADLINES, worst_case
from assay.dashboard.table import MOST_NAMES, Trials
from assay.dashboard.wire import NONE, Held, block
from assay.metrics import better_of
from assay.store.index import Changes
from assay.store.reader import Reader
from tests.dashboard.made import changes, fill, name_of, points


def read(content: bytes) -> tuple[dict[str, Any], np.ndarray, dict[str, np.ndarray]]:
    """What a browser reads of a block."""
    length = int(np.frombuffer(content, "<u4", 1)[0])
    header = json.loads(content[4 : 4 + length])
    at = 4 + length + -(4 + length) % 8
    arrays = []
    for kind in ("<u4", *("<f4" if one["kind"] == "number" else "<u2" for one in header["columns"])):
        values = np.frombuffer(content, kind, header["count"], at)
        at += values.nbytes + -values.nbytes % 8
        arrays.append(values)
    assert at == len(content)
    return header, arrays[0], dict(zip((one["key"] for one in header["columns"]), arrays[1:], strict=True))


def held_of(table: Trials) -> Held:
    """What a page holds that has just asked for everything."""
    return Held(table.epoch, table.schema, table.version)


@pytest.fixture
def table() -> Trials:
    found = Trials(["sweep"])
    found.take(0, changes(500))
    return found


def test_every_trial_has_its_values(table: Trials) -> None:
    drawn = points(500)
    header, rows, columns = read(block(table))
    assert header["total"] == header["count"] == len(rows) == 500
    for key in ("objective.epsilon", "training.learning_rate", "privacy.epsilon", "accuracy", "epsilon"):
        np.testing.assert_array_equal(columns[key], drawn[key].astype(np.float32))
    np.testing.assert_allclose(columns["worst_case:linf:0.1"], drawn["worst_case"] * 0.9, rtol=1e-6)
    states = next(one["names"] for one in header["columns"] if one["key"] == "state")
    assert [states[code] for code in columns["state"]] == ["failed" if one else "done" for one in drawn["failed"]]


def test_a_setting_that_never_varies_is_sent_once(table: Trials) -> None:
    header, _, columns = read(block(table))
    assert header["constants"]["training.epochs"] == 40
    assert header["constants"]["objective.random_start"] is True
    assert not {"training.epochs", "objective.name", "study"} & set(columns)


def test_a_setting_that_some_trials_lack_varies(table: Trials) -> None:
    _, _, columns = read(block(table))
    np.testing.assert_array_equal(np.isnan(columns["privacy.delta"]), np.isnan(points(500)["privacy.epsilon"]))


def test_only_new_rows_are_sent(table: Trials) -> None:
    held = held_of(table)
    table.take(0, changes(20, seed=3, first=500))
    header, rows, columns = read(block(table, held))
    assert header["total"] == 520
    assert rows.tolist() == list(range(500, 520))
    np.testing.assert_array_equal(columns["accuracy"], points(20, 3)["accuracy"].astype(np.float32))


def test_rows_keep_their_numbers_when_a_trial_runs_again(table: Trials) -> None:
    held = held_of(table)
    again = changes(3, seed=9, first=1)
    table.take(0, again)
    header, rows, columns = read(block(table, held))
    assert header["total"] == 500
    assert rows.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(columns["accuracy"], points(3, 9)["accuracy"].astype(np.float32))


def test_a_trial_that_is_deleted_is_marked_and_not_renumbered(table: Trials) -> None:
    held = held_of(table)
    table.take(0, Changes(whole=False, columns=changes(1).columns.slice(0, 0), gone=[("trials", name_of(7))]))
    header, rows, columns = read(block(table, held))
    states = next(one["names"] for one in header["columns"] if one["key"] == "state")
    assert rows.tolist() == [7]
    assert states[columns["state"][0]] == "gone"


def varied_later() -> Changes:
    """A trial more, whose number of epochs is another than that of all before it."""
    later = changes(1, first=500).columns
    place = later.schema.get_field_index("settings")
    told = [text.replace("training.epochs=40", "training.epochs=80") for text in later["settings"].to_pylist()[0]]
    field = later.schema.field(place)
    return Changes(whole=False, columns=later.set_column(place, field, pa.array([told], field.type)), gone=[])


def test_a_setting_that_begins_to_vary_sends_all_rows_again(table: Trials) -> None:
    held = held_of(table)
    table.take(0, varied_later())
    header, _, columns = read(block(table, held))
    assert columns["training.epochs"].tolist() == [40] * 500 + [80]
    assert header["schema"] == table.schema > held.schema


def test_columns_that_come_while_a_page_asks_are_sent_whole(table: Trials) -> None:
    held, answers = held_of(table), []
    asking = threading.Thread(target=lambda: answers.append(block(table, held)))
    with table.lock:
        asking.start()
        time.sleep(0.05)  # the page's question waits for the table now
        table.take(0, varied_later())
    asking.join()
    header, _, columns = read(answers[0])
    assert header["schema"] > held.schema
    assert len(columns["training.epochs"]) == 501


def test_a_column_with_too_many_names_leaves_the_others_in_their_places(table: Trials) -> None:
    def cohorts(first: int, names: list[str]) -> Changes:
        later = changes(len(names), first=first).columns
        place = later.schema.get_field_index("cohort")
        return Changes(whole=False, columns=later.set_column(place, "cohort", pa.array(names)), gone=[])

    table.take(0, cohorts(500, ["a", "b"]))
    held, many = held_of(table), MOST_NAMES + 1
    assert "cohort" in read(block(table))[2]
    table.take(0, cohorts(502, [f"cohort {number}" for number in range(many)]))
    header, rows, columns = read(block(table, held))
    assert header["crowded"] == ["cohort"] and "cohort" not in columns
    assert header["schema"] > held.schema and len(rows) == 502 + many


def test_the_index_of_a_store_gives_the_same_table(tmp_path: Path, table: Trials) -> None:
    fill(tmp_path / "sweep", 40)
    reader, read_back = Reader(str(tmp_path / "sweep")), Trials(["sweep"])
    read_back.take(0, reader.changes(listed=True))
    drawn = points(40)
    order = read_back.find([name_of(number) for number in range(40)])
    assert sorted(order) == list(range(40))
    for number, row in enumerate(order):
        values = read_back.values(row)
        for key in ("objective.epsilon", "accuracy", "privacy.epsilon"):
            assert values[key] == pytest.approx(drawn[key][number], nan_ok=True) or np.isnan(drawn[key][number])
        assert (read_back.error(row) != "") == drawn["failed"][number]
    assert not len(reader.changes(listed=False).columns)


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ([1, 1], [2], "number"),
        ([1.5, 1.5], ["x"], "category"),
        ([True], [False], "category"),
        ([[4, 8]], [[4]], "category"),
    ],
)
def test_a_column_of_mixed_values_is_one_of_names(first: list[Any], second: list[Any], kind: str) -> None:
    column = Column()
    column.write(np.arange(len(first)), first, before=0, capacity=4)
    assert not column.varied
    column.write(np.array([len(first)]), second, before=len(first), capacity=4)
    assert column.varied
    assert column.kind == kind
    texts = [column.text(row) for row in range(len(first) + 1)]
    assert len(set(map(str, texts))) == 2
    assert str(texts[0]) == str(texts[len(first) - 1])


def test_a_value_that_is_absent_is_sent_as_none() -> None:
    column = Column()
    column.write(np.arange(2), ["a", None], before=0, capacity=2)
    assert column.read(slice(None), 2).tolist() == [0, -1]
    assert np.where(column.read(slice(None), 2) < 0, NONE, 0).tolist() == [0, NONE]


def test_figures_are_better_in_the_direction_that_evaluations_declare() -> None:
    """The page loads no evaluation, so its own words are held to theirs here."""
    told = {key: headline.better for key, headline in HEADLINES.items() if key != "seconds"}
    assert told == {key: better_of(key) for key in told} and set(told.values()) == {"higher", "lower"}
    assert worst_case("linf", 0.1)[1].better == better_of("worst_case_accuracy") == "higher"
