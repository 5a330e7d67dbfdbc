"""Settings of a trial lie flat in the index, and come back as they were."""

from typing import Any

from assay.store.settings import parsed, settings_of

ASKED: dict[str, Any] = {
    "recipe": {
        "objective": {"name": "pgd", "epsilon": 0.1, "random_start": True},
        "privacy": None,
        "data": [{"name": "label_flips", "share": 0.2}],
        "training": {"betas": [0.9, 0.999], "note": "a=b"},
    },
    "model": {"name": "mlp", "hidden": [16, 8]},
    "seed": 3,
    "split": {"folds": 5, "tested": "validation"},
    "cohort": "made",
}


def test_every_setting_has_a_dotted_key_and_its_value() -> None:
    assert dict(map(parsed, settings_of(ASKED))) == {
        "objective.name": "pgd",
        "objective.epsilon": 0.1,
        "objective.random_start": True,
        "data.label_flips": True,
        "data.label_flips.share": 0.2,
        "training.betas": [0.9, 0.999],
        "training.note": "a=b",
        "model.name": "mlp",
        "model.hidden": [16, 8],
        "seed": 3,
        "split.tested": "validation",
    }


def test_trials_of_an_early_version_have_none() -> None:
    assert settings_of({}) == []


def test_equal_settings_share_their_memory() -> None:
    first, second = settings_of(ASKED), settings_of({**ASKED, "seed": 4})
    assert [a is b for a, b in zip(first, second, strict=True)].count(False) == 1
