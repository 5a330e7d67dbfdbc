"""Recipes are told as attack, share and defence, and only what is alike in all else stands in one line."""

import pytest

from assay.recipes import Recipe
from assay.report.designs import grid, poisoned
from assay.study.reading import build_study
from assay.study.spec import Study


def recipes(study: Study, **data: list[object]) -> dict[str, Recipe]:
    raw = study.model_dump(mode="json")
    raw["cohorts"]["made"]["recipes"] = {name: {"data": treatments} for name, treatments in data.items()}
    return dict(build_study(raw | {"baseline": next(iter(data))}, "made.yaml").cohorts["made"].recipes)


@pytest.mark.parametrize(
    ("treatments", "said"),
    [
        ([], ("", 0.0, "no defence")),
        (["knn_sanitation"], ("", 0.0, "knn sanitation")),
        ([{"name": "label_flips", "share": 0.1}, "knn_sanitation"], ("label_flips", 0.1, "knn sanitation")),
        ([{"name": "label_flips", "share": 0.1}, {"name": "backdoor", "share": 0.1}], None),
    ],
)
def test_treatments_are_told_as_attack_share_and_defence(armed: Study, treatments: list[object], said: object) -> None:
    found = poisoned(recipes(armed, one=treatments)["one"])
    assert (None if found is None else (found.attack, found.share, found.defence)) == said


def test_attacks_of_other_settings_stand_in_no_common_line(armed: Study) -> None:
    small, large = ({"name": "backdoor", "size": size} for size in (2, 3))
    found = grid(
        recipes(
            armed,
            plain=[],
            small_5=[{**small, "share": 0.05}],
            small_10=[{**small, "share": 0.1}],
            large_20=[{**large, "share": 0.2}],
            flips=[{"name": "label_flips", "share": 0.1}],
        )
    )
    assert found == {"backdoor": {"no defence": {0.0: "plain", 0.05: "small_5", 0.1: "small_10"}}}
