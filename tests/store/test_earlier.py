"""What earlier versions held in words is read once, into the columns of the present version."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay.results import Check, Flag, Measurement, judged
from assay.store.earlier import TYPED, typed
from assay.store.folder import Store
from assay.store.rows import MEASUREMENT_SCHEMA

EARLIER = Path(__file__).parents[1] / "study" / "earlier" / "out"
CHECK = {"concerns": "accuracy", "verdict": "warn", "attack": "pgd"}
SEEDED = "experiment, not releasable: the noise comes from a recorded seed"


def row(
    name: str, *warnings: str, status: str = "measured", conditions: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A row as an earlier version wrote it."""
    return {"name": name, "status": status, "conditions": conditions or {}, "warnings": list(warnings)}


def test_a_check_is_told_by_its_name_and_gets_fields() -> None:
    found = typed(row("check.stronger_attack", "found 0.2", conditions=dict(CHECK)))
    assert (found["kind"], found["rule"], found["verdict"]) == ("check", "stronger_attack", "warn")
    assert (found["concerns"], found["conditions"], found["warnings"]) == (
        ["accuracy"],
        {"attack": "pgd"},
        ["found 0.2"],
    )
    several = typed(row("check.x", "m", conditions={**CHECK, "concerns": ["a", "b"]}))
    assert several["concerns"] == ["a", "b"]


def test_what_checks_said_beside_a_figure_becomes_flags_and_its_own_words_stay() -> None:
    found = typed(row("accuracy", "few: records", "fail: it is: low", SEEDED))
    assert (found["kind"], found["reason"], found["warnings"]) == ("measurement", None, ["few: records"])
    assert [Flag(**flag) for flag in found["flags"]] == [
        Flag(verdict="fail", message="it is: low"),
        Flag(verdict="warn", message=SEEDED, rule="not_releasable"),
    ]


@pytest.mark.parametrize(
    ("name", "why", "reason"),
    [
        ("epsilon", "the recipe is not private: nothing bounds what the model reveals", "not_private"),
        ("epsilon_pld", "the recipe is not private (ε = ∞)", "not_private"),
        ("epsilon", "δ is above 1/n", "unspecified"),
        ("accuracy", "not private", "unspecified"),
    ],
)
def test_only_an_epsilon_of_no_private_recipe_is_told_from_other_reasons(name: str, why: str, reason: str) -> None:
    assert typed(row(name, why, status="not_applicable"))["reason"] == reason


def test_a_row_of_the_present_version_is_not_read_for_words() -> None:
    now = {**row("accuracy", "fail: no prefix is read here"), "kind": "measurement", "flags": [], "reason": None}
    assert typed(now) == now


def test_the_fixture_of_an_earlier_version_has_every_column() -> None:
    frame = Store(str(EARLIER)).frame()
    checks = frame[frame["kind"] == "check"]
    assert len(checks) > 0 and set(checks["verdict"]) <= {"pass", "warn", "fail"}
    assert all(checks["concerns"]) and not any("verdict" in conditions for conditions in checks["conditions"])
    absent = frame[(frame["status"] == "not_applicable") & (frame["name"] == "epsilon")]
    assert set(absent["recipe"]) == {"standard"} and set(absent["reason"]) == {"not_private"}
    assert not frame["warnings"].map(lambda said: any(one.startswith(("warn: ", "fail: ")) for one in said)).any()


def test_files_of_both_versions_make_one_table(tmp_path: Path, record: Any) -> None:
    store, check = Store(str(tmp_path)), Check(rule="odd", concerns="accuracy", verdict="fail", figure=1.0, message="m")
    flagged = Measurement(name="accuracy", value=0.9).flag(check.flag)
    for trial in ("now", "then"):
        store.write(record(trial, measurements=(flagged, check.measurement())))
    then = tmp_path / "trials" / "then.parquet"
    table = pq.read_table(then)
    old = table.drop_columns(list(TYPED)).to_pylist()
    old[0]["warnings"] = ["fail: m"]
    old[1]["conditions"] = '{"concerns": "accuracy", "verdict": "fail"}'
    earlier = pa.schema(
        [field for field in MEASUREMENT_SCHEMA if field.name not in TYPED], metadata=table.schema.metadata
    )
    pq.write_table(pa.Table.from_pylist(old, schema=earlier), then)
    frame = store.frame().set_index("trial")
    for key in ("kind", "verdict", "concerns", "conditions", "warnings"):
        assert frame.loc["now", key].tolist() == frame.loc["then", key].tolist()
    assert frame.loc["then", "flags"].tolist() == [(Flag(verdict="fail", message="m"),), ()]


def test_an_inconclusive_check_is_stored_beside_those_of_earlier_versions(tmp_path: Path, record: Any) -> None:
    store = Store(str(tmp_path))
    checks = [
        Check(rule=verdict, concerns="accuracy", verdict=verdict, figure=1.0, message="m")  # type: ignore[arg-type]
        for verdict in ("pass", "inconclusive", "warn", "fail")
    ]
    store.write(record("now", measurements=tuple(judged([Measurement(name="accuracy", value=0.9), *checks]))))
    frame = store.frame()
    assert frame["verdict"].tolist()[1:] == frame["rule"].tolist()[1:] == [check.verdict for check in checks]
    assert [flag.rule for flag in frame["flags"].iloc[0]] == ["warn", "fail"]


def test_files_with_typed_columns_are_told_which_map_is_of_the_default_method(tmp_path: Path, record: Any) -> None:
    store = Store(str(tmp_path))
    maps = [
        Measurement(name="faithfulness", value=value, conditions={"method": method, "reference": "zeros"})
        for method, value in (("integrated_gradients", 0.5), ("deep_shap", 0.1))
    ]
    slopes = Measurement(name="attribution_strength", value=1.0, conditions={"method": "integrated_gradients"})
    store.write(record("then", measurements=(*maps, slopes)))
    frame = store.frame()
    assert [asked.get("primary") for asked in frame["conditions"]] == [True, False, None]
    assert frame["value"].tolist() == [0.5, 0.1, 1.0]


def test_an_index_of_rows_that_were_read_by_earlier_rules_is_made_again(
    tmp_path: Path, record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = {"method": "integrated_gradients", "reference": "zeros"}
    row_of_then = Measurement(name="faithfulness", value=0.5, conditions=about)
    with monkeypatch.context() as earlier:
        earlier.setattr("assay.store.reader.is_earlier", lambda table: False)
        earlier.setattr("assay.store.index._READING", 1)
        store = Store(str(tmp_path))
        with store.locked():
            store.write(record("then", measurements=(row_of_then,)))
        (kept,) = store.frame()["conditions"]
        assert "primary" not in kept
    (read,) = Store(str(tmp_path)).frame()["conditions"]
    assert read["primary"] is True
