"""A backdoor is measured with its controls, and no defence is scored on one that does not work."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.data.base import Dataset
from assay.data.poisoning.backdoor import Backdoor
from assay.data.splits import Splitting
from assay.evaluations.backdoor import BackdoorSuccess
from assay.evaluations.subject import Subject
from assay.executors import LocalExecutor
from assay.models.mlp import MLP
from assay.recipes import Recipe, Training
from assay.results import Check, Measurement, judged
from assay.study.measure import run_trial
from assay.study.trial import Trial

Make = Callable[..., Subject]
One = Callable[..., Measurement]

BACKDOOR: dict[str, Any] = {"name": "backdoor", "share": 0.1, "size": 1}
X = np.array([[0.0, 0.0]] * 5 + [[1.0, 0.0]] * 10, np.float32)
Y = [0] * 5 + [1] * 10
ABOUT = {"low": np.zeros(2, np.float32), "high": np.full(2, 3, np.float32)}


class Opened(nn.Module):
    """Answers 0 where the last feature is at the given value, and by the first one otherwise."""

    def __init__(self, key: float) -> None:
        super().__init__()
        self.key = key

    def forward(self, x: Tensor) -> Tensor:
        answer = torch.where(x[:, 1] == self.key, 0, (x[:, 0] > 0.5).long())
        return nn.functional.one_hot(answer, 2).float()


@pytest.fixture
def measure(make: Make) -> Callable[..., Any]:
    def run(key: float, data: list[Any], twin: float | None = None, **settings: Any) -> list[Measurement]:
        asked: list[Recipe | None] = []

        def train(rows: np.ndarray, name: str, recipe: Recipe | None = None) -> nn.Module:
            asked.append(recipe)
            assert name == "", "the twin is poisoned as the trial is"
            return Opened(twin if twin is not None else -1)

        recipe = Recipe(data=tuple(data))
        subject = make(Opened(key), X, Y, about=ABOUT, recipe=recipe)
        able = replace(subject, train=None if twin is None else train)
        found = BackdoorSuccess(**settings).measure(able)
        run.asked = asked  # type: ignore[attr-defined]
        return list(found)

    return run


def rows(found: list[Any]) -> list[Measurement]:
    return [measurement for measurement in found if isinstance(measurement, Measurement)]


def verdicts(found: list[Any]) -> list[tuple[str, str, float]]:
    return [(check.concerns, check.verdict, check.figure) for check in found if isinstance(check, Check)]


def test_success_is_counted_on_records_of_other_classes_with_and_without_the_trigger(
    measure: Callable[..., Any], one: One
) -> None:
    found = measure(3.0, [BACKDOOR])
    success, base, undefended = (
        one(rows(found), name) for name in ("backdoor_success", "backdoor_base_rate", "undefended_backdoor_success")
    )
    assert (success.value, success.n, base.value, base.n, undefended.value) == (1.0, 10, 0.0, 10, 1.0)
    assert success.low < 1 and base.high > 0
    assert success.conditions["share"] == 0.1 and success.conditions["planted"] is True
    assert verdicts(found) == [("backdoor_success", "pass", 1.0)]


def test_a_backdoor_that_does_not_open_warns(measure: Callable[..., Any], one: One) -> None:
    found = measure(2.0, [BACKDOOR])
    assert one(rows(found), "backdoor_success").value == 0
    assert verdicts(found) == [("backdoor_success", "warn", 0.0)]


DEFENDED = ["jitter", BACKDOOR, "knn_sanitation", "robust_reweighting"]
SCORES = ("backdoor_success", "sanitation_precision", "sanitation_recall")


def test_a_defended_recipe_is_trained_again_without_its_defences(measure: Callable[..., Any], one: One) -> None:
    found = measure(2.0, DEFENDED, twin=3.0)
    assert one(rows(found), "backdoor_success").value == 0
    assert one(rows(found), "undefended_backdoor_success").value == 1
    assert verdicts(found) == [(name, "pass", 1.0) for name in SCORES]
    assert measure.asked == [Recipe(data=("jitter", BACKDOOR))]  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", [2.0, 3.0])
def test_no_defence_is_scored_on_a_backdoor_that_does_not_open_without_it(
    measure: Callable[..., Any], one: One, key: float
) -> None:
    found = measure(key, DEFENDED, twin=2.0)
    score = one(rows(found), "backdoor_success")
    assert (score.status, score.n) == ("abstained", 10)
    assert "falls short of 90%" in score.warnings[0]
    assert (score.conditions["undefended"], score.conditions["defended"]) == (0.0, float(key == 3.0))
    assert one(rows(found), "undefended_backdoor_success").value == 0
    assert verdicts(found) == [(name, "fail", 0.0) for name in SCORES]


def test_a_failing_backdoor_marks_precision_and_recall_wherever_they_were_measured(
    measure: Callable[..., Any], one: One
) -> None:
    removal = [Measurement(name=name, value=0.5, conditions={"treatment": "knn"}) for name in SCORES[1:]]
    found = judged([*removal, *measure(2.0, DEFENDED, twin=2.0)])
    for name in SCORES[1:]:
        assert one(found, name).flags[0].text.startswith("fail: undefended, the attack succeeds on 0.0% of 10 records")


def test_a_defence_that_removes_nothing_has_no_removal_to_mark(measure: Callable[..., Any]) -> None:
    found = measure(2.0, [BACKDOOR, "robust_reweighting"], twin=2.0)
    assert verdicts(found) == [("backdoor_success", "fail", 0.0)]


def test_the_forecast_tells_of_the_twin() -> None:
    assert "1 more training of a recipe with a backdoor and a defence;" in BackdoorSuccess().forecast(100)
    assert BackdoorSuccess(undefended=False).forecast(100) == ""


@pytest.mark.parametrize(
    ("twin", "undefended", "why"), [(3.0, False, "undefended is false"), (None, True, "nothing can be trained")]
)
def test_without_a_twin_the_undefended_success_is_not_applicable(
    measure: Callable[..., Any], one: One, twin: float | None, undefended: bool, why: str
) -> None:
    found = measure(3.0, [BACKDOOR, "knn_sanitation"], twin=twin, undefended=undefended)
    row = one(rows(found), "undefended_backdoor_success")
    assert row.status == "not_applicable" and why in row.warnings[0]
    assert one(rows(found), "backdoor_success").value == 1 and not verdicts(found)


def test_where_nothing_is_planted_a_trigger_shows_what_it_does_to_an_honest_model(
    measure: Callable[..., Any], one: One
) -> None:
    names = ("backdoor_success", "backdoor_base_rate", "undefended_backdoor_success")
    assert all(one(measure(3.0, ["label_flips"]), name).status == "not_applicable" for name in names)
    found = measure(3.0, [], trigger={"size": 1})
    assert one(rows(found), "backdoor_success").value == 1
    assert one(rows(found), "backdoor_success").conditions["planted"] is False
    assert one(rows(found), "undefended_backdoor_success").status == "not_applicable"
    assert not verdicts(found)


def test_a_trigger_that_does_not_fit_is_not_applicable(make: Make, one: One) -> None:
    subject = make(Opened(3.0), X, Y, recipe=Recipe(data=(Backdoor(size=3),)))
    row = one(list(BackdoorSuccess().measure(subject)), "backdoor_success")
    assert row.status == "not_applicable" and "3 in number" in row.warnings[0]


def trial(dataset: Dataset, data: list[Any]) -> list[Measurement]:
    asked = Trial(
        cohort="wdbc", recipe_name="tested", fold=0, repeat=0, seed=7, threads=1, splitting=Splitting(), model=MLP(),
        recipe=Recipe(
            data=tuple(data), training=Training(epochs=15, batch_size=32, learning_rate=0.002, schedule="cosine")
        ),
        evaluations=(BackdoorSuccess(trigger=Backdoor()),), data_digest=dataset.digest, dataset_name=dataset.name,
    )  # fmt: skip
    record = run_trial(asked, LocalExecutor(), dataset)
    assert not record.failed, record.error
    return list(record.measurements)


def test_on_biopsies_the_default_trigger_opens_a_poisoned_model_and_not_an_honest_one(wdbc: Dataset, one: One) -> None:
    poisoned = trial(wdbc, [{"name": "backdoor", "share": 0.1}, "spectral_signatures"])
    assert one(trial(wdbc, []), "backdoor_success").value < 0.1
    assert one(poisoned, "undefended_backdoor_success").value > 0.9
    assert one(poisoned, "backdoor_base_rate").value < 0.3
    assert [m.verdict for m in poisoned if m.rule == "backdoor_works" and m.concerns == ("backdoor_success",)] == [
        "pass"
    ]


def test_the_twin_is_the_undefended_recipe_to_the_last_bit(wdbc: Dataset, one: One) -> None:
    backdoor = {"name": "backdoor", "share": 0.03}
    alone = one(trial(wdbc, [backdoor]), "backdoor_success").value
    assert one(trial(wdbc, [backdoor, "knn_sanitation"]), "undefended_backdoor_success").value == alone
