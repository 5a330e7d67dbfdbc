"""The worst case is the worst case, and where it has a closed form it is found."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.attacks.adaptive import AdaptiveAttack
from assay.attacks.base import Attack
from assay.attacks.fgsm import FGSM
from assay.attacks.pgd import PGD
from assay.data.base import Dataset
from assay.errors import SpecError
from assay.evaluations import robustness
from assay.evaluations.attack_runs import worst_case
from assay.evaluations.robustness import Robustness
from assay.evaluations.subject import Subject
from assay.registry import build
from assay.results import Measurement, judged

Make = Callable[..., Subject]
One = Callable[..., Measurement]

QUICK = {"steps": 3, "search_steps": 1}
ATTACKS = ("fgsm", "pgd_cross_entropy", "pgd_margin")
RADII = (0.0, 0.1, 0.3, 0.5)


@pytest.fixture
def patients(make: Make, trained: nn.Module, wdbc: Dataset) -> Subject:
    """A trained network on every sixth patient."""
    about = {"low": wdbc.low, "high": wdbc.high, "epsilons": RADII}
    return make(trained, wdbc.x[::6], wdbc.y[::6], about=about)


@pytest.fixture
def found(patients: Subject) -> list[Measurement]:
    return judged(Robustness(steps=5, carlini_wagner=QUICK).measure(patients))


def threshold_model() -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """The sum of two inputs against zero: a record at distance d from zero falls to L∞ changes above d/2."""
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
        model.bias.zero_()
    x = np.linspace(-1, 1, 20)[:, None] * np.array([[0.75, 0.25]])
    return model, x.astype(np.float32), (x.sum(1) > 0).astype(np.int64)


def test_no_attack_beats_the_worst_case(found: list[Measurement], one: One) -> None:
    for epsilon in RADII:
        worst = one(found, "worst_case_accuracy", epsilon=epsilon)
        single = [one(found, "robust_accuracy", attack=name, epsilon=epsilon) for name in ATTACKS]
        assert worst.value <= min(m.value for m in single)


def test_the_worst_case_never_rises_with_epsilon(found: list[Measurement], one: One) -> None:
    values = [one(found, "worst_case_accuracy", epsilon=epsilon).value for epsilon in RADII]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]


def test_nothing_changes_at_epsilon_zero(found: list[Measurement], patients: Subject, one: One) -> None:
    rows = patients.split.test
    clean = (patients.logits(rows).argmax(1) == patients.dataset.y[rows]).mean()
    for name in ATTACKS:
        assert one(found, "robust_accuracy", attack=name, epsilon=0.0).value == clean
    assert one(found, "worst_case_accuracy", epsilon=0.0).value == clean
    assert one(found, "check.clean_at_zero").verdict == "pass"


def test_zero_is_measured_even_where_it_was_not_asked_for(make: Make, one: One) -> None:
    found = judged(Robustness(epsilons=(0.2,), carlini_wagner=QUICK).measure(make(*threshold_model())))
    assert {m.conditions["epsilon"] for m in found if m.name == "worst_case_accuracy"} == {0.0, 0.2}


def test_a_linear_model_is_as_robust_as_its_margins(make: Make, one: One) -> None:
    model, x, y = threshold_model()
    subject = make(model, x, y, about={"epsilons": (0.1, 0.2, 0.4)})
    found = judged(Robustness(carlini_wagner=QUICK).measure(subject))
    for epsilon in (0.1, 0.2, 0.4):
        withstanding = (np.abs(x.sum(1)) / 2 > epsilon).mean()
        assert one(found, "worst_case_accuracy", epsilon=epsilon).value == pytest.approx(withstanding)
        assert one(found, "robust_accuracy", attack="fgsm", epsilon=epsilon).value == pytest.approx(withstanding)


def test_the_l2_radius_of_a_linear_model_is_its_distance_to_the_boundary(make: Make, one: One) -> None:
    model, x, y = threshold_model()
    distances = np.abs(x.sum(1)) / np.sqrt(2)
    found = judged(Robustness(norm="l2", epsilons=(0.2, 0.4)).measure(make(model, x, y)))
    for epsilon in (0.2, 0.4):
        assert one(found, "worst_case_accuracy", epsilon=epsilon).value == pytest.approx((distances > epsilon).mean())
    assert one(found, "carlini_wagner_success").value == 1
    median = one(found, "carlini_wagner_median_distance")
    assert median.value == pytest.approx(np.quantile(distances, 0.5, method="inverted_cdf"), rel=0.02)
    tenth = one(found, "carlini_wagner_tenth_percentile_distance")
    assert tenth.value == pytest.approx(np.quantile(distances, 0.1, method="inverted_cdf"), abs=0.02)


def test_every_figure_says_how_it_was_found(found: list[Measurement], patients: Subject, one: One) -> None:
    pgd = one(found, "robust_accuracy", attack="pgd_margin", epsilon=0.3)
    wanted = {"norm": "linf", "units": "units", "steps": 5, "loss": "margin", "relative_step": 2.5, "restarts": 1}
    assert wanted.items() <= dict(pgd.conditions).items()
    assert pgd.n == len(patients.split.test)
    assert pgd.low < pgd.value < pgd.high
    worst = one(found, "worst_case_accuracy", epsilon=0.3)
    assert worst.conditions["attacks"][:5] == [*ATTACKS, "random_noise", "targeted_pgd"]
    assert {m.conditions["norm"] for m in found if m.name.startswith("carlini_wagner")} == {"l2"}


def test_every_radius_is_attacked_by_everything(found: list[Measurement]) -> None:
    rows = [m.conditions for m in found if m.name == "robust_accuracy"]
    radii = {row["epsilon"] for row in rows}
    attacks = {row["attack"] for row in rows}
    assert {"targeted_pgd", "random_noise"} <= attacks
    assert {(row["attack"], row["epsilon"]) for row in rows} == {(a, e) for a in attacks for e in radii}


def test_the_same_subject_is_attacked_the_same_twice(patients: Subject) -> None:
    asked = Robustness(epsilons=(0.3,), steps=3, carlini_wagner=QUICK)
    assert asked.measure(patients) == asked.measure(patients)


def test_the_model_is_left_as_it_was(patients: Subject) -> None:
    before = {name: tensor.clone() for name, tensor in patients.model.state_dict().items()}
    judged(Robustness(epsilons=(0.3,), steps=3, carlini_wagner=QUICK).measure(patients))
    assert all(torch.equal(tensor, before[name]) for name, tensor in patients.model.state_dict().items())
    assert all(parameter.grad is None for parameter in patients.model.parameters())


def test_what_is_fooled_at_one_radius_is_fooled_at_every_greater_one() -> None:
    def curve(**fooled: list[bool]) -> dict[float, object]:
        class Outcome:
            def __init__(self, fooled: list[bool]) -> None:
                self.fooled = torch.tensor(fooled)

        return {float(radius.removeprefix("at_")) / 10: Outcome(records) for radius, records in fooled.items()}

    one = curve(at_0=[False, False, False], at_1=[True, False, False], at_2=[False, False, True])
    probe = curve(at_1=[False, True, False])
    found = worst_case([one, probe])  # type: ignore[list-item]
    assert {radius: fooled.tolist() for radius, fooled in found.items()} == {
        0.0: [False, False, False],
        0.1: [True, True, False],
        0.2: [True, True, True],
    }


def test_a_model_that_is_right_about_nothing_is_no_crash(make: Make, one: One) -> None:
    model, x, y = threshold_model()
    found = judged(Robustness(epsilons=(0.1,), carlini_wagner=QUICK).measure(make(model, x, 1 - y)))
    assert {m.value for m in found if m.name in ("worst_case_accuracy", "robust_accuracy")} == {0.0}
    assert one(found, "carlini_wagner_success").status == "not_applicable"


def test_a_distance_that_cannot_be_found_is_no_missing_row(make: Make, one: One) -> None:
    model, x, y = threshold_model()
    found = judged(Robustness(epsilons=(0.1,), carlini_wagner=QUICK).measure(make(model, x, 1 - y)))
    for name in ("carlini_wagner_median_distance", "carlini_wagner_tenth_percentile_distance"):
        assert one(found, name).status == "not_applicable"


def test_a_distance_that_the_attack_did_not_reach_abstains(make: Make, one: One) -> None:
    class Deaf(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.nn.functional.one_hot((x.sum(1) > 0).long(), 2).float() + 0 * x

    _, x, y = threshold_model()
    found = judged(Robustness(epsilons=(0.1,), carlini_wagner=QUICK).measure(make(Deaf(), x, y)))
    median = one(found, "carlini_wagner_median_distance")
    assert median.status == "abstained"
    assert "the attack failed on 100% of the records" in median.warnings[0]


def test_a_model_that_answers_nan_is_never_robust(make: Make, one: One) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.nan

    _, x, y = threshold_model()
    found = judged(Robustness(epsilons=(0.1,), steps=3, carlini_wagner=QUICK).measure(make(Broken(), x, y)))
    assert {m.value for m in found if m.name in ("worst_case_accuracy", "robust_accuracy")} == {0.0}
    for name in ("success", "median_distance", "tenth_percentile_distance"):
        assert one(found, f"carlini_wagner_{name}").warnings == (
            "the model classifies no record correctly to begin with",
        )
    assert one(found, "check.finite_outputs").verdict == "fail"


def test_patients_are_drawn_whole(make: Make, one: One) -> None:
    model, x, y = threshold_model()
    asked = Robustness(epsilons=(0.2,), steps=3, carlini_wagner=QUICK)
    x, y = np.repeat(x, 8, axis=0), np.repeat(y, 8)
    for name, where in (("worst_case_accuracy", {"epsilon": 0.2}), ("carlini_wagner_success", {})):
        clustered = one(judged(asked.measure(make(model, x, y, groups=np.arange(160) // 8))), name, **where)
        unaware = one(judged(asked.measure(make(model, x, y))), name, **where)
        assert clustered.high - clustered.low >= unaware.high - unaware.low or clustered.value in (0, 1)


@pytest.mark.parametrize(
    "settings",
    [{"steps": 0}, {"norm": "l1"}, {"epsilons": [-0.1]}, {"epsilons": [float("inf")]}, {"epsilons": ["much"]}],
)
def test_impossible_settings_are_refused_before_anything_runs(settings: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="robustness"):
        build("evaluation", {"name": "robustness", **settings})


def test_more_attacks_enter_the_worst_case_under_their_labels(make: Make, one: One) -> None:
    model, x, y = threshold_model()
    asked = Robustness(epsilons=(0.2,), carlini_wagner=QUICK, attacks=({"name": "pgd", "steps": 7, "restarts": 2},))
    label = asked.attacks[0].label
    found = judged(asked.measure(make(model, x, y)))
    assert one(found, "robust_accuracy", attack=label, epsilon=0.2).conditions["steps"] == 7
    assert label in one(found, "worst_case_accuracy", epsilon=0.2).conditions["attacks"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"attacks": ("fgsm",)}, "two are called 'fgsm'"),
        ({"attacks": ("nonsense",)}, "unknown attack 'nonsense'"),
        ({"norm": "l2", "epsilons": ()}, "norm l2 needs its own epsilons"),
    ],
)
def test_attacks_that_cannot_be_asked_for_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        build("evaluation", {"name": "robustness", **settings})


@pytest.mark.parametrize("epsilon", [-0.1, float("nan"), float("inf")])
def test_a_radius_that_is_no_number_of_at_least_zero_is_refused(epsilon: float) -> None:
    with pytest.raises(SpecError, match="epsilons"):
        build("evaluation", {"name": "robustness", "epsilons": (epsilon,)})


class Rounded(nn.Module):
    """Hides every gradient from whoever would follow one."""

    def __init__(self) -> None:
        super().__init__()
        self.network, *_ = threshold_model()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(torch.round(8 * x) / 8)


def test_an_attack_does_not_silence_an_answer_of_the_same_name_and_other_settings(
    make: Make, one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_that_name(*_: object, **__: object) -> list[AdaptiveAttack]:
        known = [("fgsm", FGSM(loss="margin"), None), ("seen", FGSM(), None), ("bridged", FGSM(), Rounded())]
        return [
            AdaptiveAttack(label=label, attack=attack, through=through, because=("zero_gradients",))
            for label, attack, through in known
        ]

    monkeypatch.setattr(robustness, "answers", of_that_name)
    _, x, y = threshold_model()
    found = judged(Robustness(epsilons=(0.3,), steps=3, carlini_wagner=QUICK).measure(make(Rounded(), x, y)))
    losses = {
        name: one(found, "robust_accuracy", attack=name, epsilon=0.3).conditions["loss"]
        for name in ("fgsm", "fgsm_adaptive", "bridged")
    }
    assert losses == {"fgsm": "cross_entropy", "fgsm_adaptive": "margin", "bridged": "cross_entropy"}
    attacks = one(found, "worst_case_accuracy", epsilon=0.3).conditions["attacks"]
    assert attacks[-2:] == ["fgsm_adaptive", "bridged"]
    assert "seen" not in attacks


def test_an_answer_that_cannot_be_run_is_a_row_and_the_rest_stands(
    make: Make, one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing(Attack):
        def perturb(self, *_: object) -> Tensor:
            raise RuntimeError("no stand-in will do")

    def both(*_: object, **__: object) -> list[AdaptiveAttack]:
        given = {"through": None, "because": ("zero_gradients",)}
        return [
            AdaptiveAttack(label="refusing", attack=Refusing(name="refusing"), **given),
            AdaptiveAttack(label="longer", attack=PGD(steps=7), **given),
        ]

    monkeypatch.setattr(robustness, "answers", both)
    _, x, y = threshold_model()
    found = judged(Robustness(epsilons=(0.3,), steps=3, carlini_wagner=QUICK).measure(make(Rounded(), x, y)))
    lost = [m for m in found if m.conditions.get("attack") == "refusing"]
    assert {(m.status, m.conditions["epsilon"]) for m in lost} == {("failed", 0.0), ("failed", 0.3)}
    assert all("RuntimeError: no stand-in will do" in m.warnings[0] for m in lost)
    worst = one(found, "worst_case_accuracy", epsilon=0.3).conditions["attacks"]
    assert "longer" in worst
    assert "refusing" not in worst


def test_a_stand_in_that_cannot_be_made_is_a_row_and_the_rest_stands(
    make: Make, one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*_: object, **__: object) -> list[AdaptiveAttack]:
        raise TypeError("this model cannot be copied")

    monkeypatch.setattr(robustness, "answers", nothing)
    _, x, y = threshold_model()
    found = judged(Robustness(epsilons=(0.3,), steps=3, carlini_wagner=QUICK).measure(make(Rounded(), x, y)))
    lost = one(found, "robust_accuracy", attack="adaptive", epsilon=0.3)
    assert (lost.status, "this model cannot be copied" in lost.warnings[0]) == ("failed", True)
    assert "square" in one(found, "worst_case_accuracy", epsilon=0.3).conditions["attacks"]


def test_the_figures_of_a_random_model_do_not_hang_on_who_drew_before(make: Make) -> None:
    class Noisy(Rounded):
        def forward(self, x: Tensor) -> Tensor:
            return self.network(x + 0.2 * torch.randn_like(x))

    _, x, y = threshold_model()
    asked, subject = Robustness(epsilons=(0.2,), steps=3, carlini_wagner=QUICK, samples=4), make(Noisy(), x, y)
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(repr(asked.measure(subject)))
        assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(seed)))
    assert found[0] == found[1]


def test_only_steps_that_may_be_too_small_are_looked_at_again(make: Make) -> None:
    model, x, y = threshold_model()
    attacks = ({"name": "pgd", "steps": 7, "restarts": 2}, {"name": "pgd", "relative_step": 0.5})
    found = judged(Robustness(epsilons=(0.2,), carlini_wagner=QUICK, attacks=attacks).measure(make(model, x, y)))
    looked_at = {m.conditions["attack"] for m in found if m.name == "check.step_size"}
    assert looked_at == {"pgd_cross_entropy", "pgd_margin", "pgd_step0.5"}
