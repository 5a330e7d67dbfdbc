"""Warnings of a table that count its records are told apart from those that follow from settings."""

from pathlib import Path

import numpy as np

from assay.data.tables.table import TableSource


def test_only_what_settings_say_is_said_to_others(tmp_path: Path) -> None:
    rows, path = np.random.default_rng(0), tmp_path / "own.csv"
    codes, insulin = rows.normal(5000, 900, 300).round().astype(int), rows.normal(120, 9, 300).round(1)
    insulin[:40] = 0
    lines = [f"{code},{own},{n % 2}" for n, (code, own) in enumerate(zip(codes, insulin, strict=True))]
    path.write_text("\n".join(["count,ins,outcome", *lines]) + "\n")
    data = TableSource(path=str(path), label="outcome", features=("count",)).load()
    assert any("ins is 0 in 40 records" in one for one in data.warnings) and data.reading
    others = data.for_others
    assert others.reading == () and len(others.warnings) == 1
    assert others.warnings[0].startswith("bounds of") and not any("40" in one for one in others.warnings)
    assert others.about["reading"] == [] and others.about["warnings"] == list(others.warnings)
