"""Every registered attack keeps the same promises, and none reports its own success."""

import copy
from contextlib import nullcontext
from typing import Literal, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.attacks.base import Attack, Attacked, judge_proposal
from assay.attacks.losses import cross_entropy, margin
from assay.attacks.pgd import PGD
from assay.data.base import Dataset
from assay.registry import build, names
from assay.seeds import Draw
from assay.threats import Bounds, Norm, Threat


class Case(NamedTuple):
    """An attack, and the norm in which it is judged."""

    attack: Attack
    norm: Norm

    def run(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, seed: int) -> Attacked:
        """Attack the model; one that needs a surrogate is given the model itself."""
        through = model if self.attack.needs_surrogate else None
        return self.attack.run(model, x, y, threat, seed=seed, through=through)


def case(name: str, norm: Norm, **settings: object) -> object:
    label = "-".join([name, norm, *(f"{key}={value}" for key, value in settings.items())])
    return pytest.param(Case(build("attack", {"name": name, **settings}), norm), id=label)  # type: ignore[arg-type]


CASES = [
    case("pgd", "linf"),
    case("pgd", "linf", loss="margin", restarts=3),
    case("pgd", "l2", restarts=2),
    case("fgsm", "linf"),
    case("fgsm", "l2", loss="margin"),
    case("random_noise", "linf"),
    case("random_noise", "l2"),
    case("carlini_wagner", "l2", search_steps=3),
    case("apgd", "linf", steps=20),
    case("apgd", "l2", steps=20, loss="dlr", restarts=2),
    case("square", "linf", queries=50),
    case("square", "l2", queries=100),
    case("deepfool", "l2", steps=20),
    case("fab", "linf", steps=10),
    case("fab", "l2", steps=10, restarts=2),
    case("transfer", "linf"),
    case("transfer", "l2"),
    case("targeted_pgd", "linf", steps=10),
    case("targeted_pgd", "l2", steps=10, restarts=2),
    case("hop_skip_jump", "linf", steps=1, queries=4, starts=2),
    case("hop_skip_jump", "l2", steps=1, queries=4, starts=2),
    case("spsa", "linf", steps=5, samples=4),
    case("spsa", "l2", steps=5, samples=4),
]
every_attack = pytest.mark.parametrize("case", CASES)

UNIT = Bounds(low=torch.tensor(-1.0), high=torch.tensor(1.0))
Records = tuple[Tensor, Tensor]


def unit_threat(norm: Norm, epsilon: float) -> Threat:
    return Threat(norm=norm, epsilon=epsilon, bounds=UNIT)


def one_feature() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A threshold on one input; with records, labels, and how far each record is from the threshold."""
    model = nn.Linear(1, 2).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.0], [2.0]]))
        model.bias.copy_(torch.tensor([0.0, -0.2]))
    x = torch.linspace(-0.6, 0.6, 5, dtype=torch.float64)[:, None]
    return model, x, (x[:, 0] > 0.1).long(), (x[:, 0] - 0.1).abs()


def test_every_registered_attack_is_in_the_table() -> None:
    assert {parameters.values[0].attack.name for parameters in CASES} == set(names("attack"))  # type: ignore[attr-defined]


@every_attack
@pytest.mark.parametrize("epsilon", [0.05, 0.5, 5.0])
def test_the_result_lies_in_the_threat_model(
    case: Case, epsilon: float, trained: nn.Module, records: Records, wdbc: Dataset
) -> None:
    threat = Threat(norm=case.norm, epsilon=epsilon, bounds=wdbc.bounds)
    x, y = records
    result = case.run(trained, x, y, threat, seed=0)
    # float32 holds a value of 12, the greatest of these records, to 1e-6.
    assert (threat.distance(result.x, x) <= epsilon + 2e-6).all()
    assert ((result.x >= threat.bounds.low) & (result.x <= threat.bounds.high)).all()


@every_attack
def test_success_is_what_the_model_says_of_the_result(
    case: Case, trained: nn.Module, records: Records, wdbc: Dataset
) -> None:
    threat = Threat(norm=case.norm, epsilon=0.5, bounds=wdbc.bounds)
    x, y = records
    result = case.run(trained, x, y, threat, seed=0)
    assert torch.equal(result.fooled, trained(result.x).argmax(1) != y)
    assert result.accuracy == pytest.approx(float((~result.fooled).sum()) / len(x))
    assert torch.equal(result.distance[result.fooled], threat.distance(result.x, x)[result.fooled])
    assert result.distance[~result.fooled].isinf().all()


@every_attack
def test_a_radius_of_zero_is_the_clean_record(case: Case, trained: nn.Module, records: Records, wdbc: Dataset) -> None:
    x, y = records
    result = case.run(trained, x, y, Threat(norm=case.norm, epsilon=0.0, bounds=wdbc.bounds), seed=0)
    assert torch.equal(result.x, x)
    assert torch.equal(result.fooled, trained(x).argmax(1) != y)
    assert (result.distance[result.fooled] == 0).all()


@every_attack
def test_a_record_that_is_already_misclassified_stays_so(
    case: Case, trained: nn.Module, records: Records, wdbc: Dataset
) -> None:
    x, y = records[0], 1 - trained(records[0]).argmax(1)
    result = case.run(trained, x, y, Threat(norm=case.norm, epsilon=0.01, bounds=wdbc.bounds), seed=0)
    assert result.fooled.all()


@every_attack
def test_an_attack_breaks_a_threshold_exactly_beyond_the_distance(case: Case) -> None:
    model, x, y, distance = one_feature()
    for record in range(len(x)):
        for factor, broken in ((0.99, False), (1.05, True)):
            threat = unit_threat(case.norm, factor * float(distance[record]))
            result = case.run(model, x[record][None], y[record][None], threat, seed=0)
            assert bool(result.fooled[0]) is broken


@every_attack
def test_an_unbounded_attack_fools_every_record(case: Case) -> None:
    """The second input is one that the model does not look at: its gradient is exactly 0."""
    model, x, y, _ = one_feature()
    wide = nn.Linear(2, 2).double()
    with torch.no_grad():
        wide.weight.copy_(torch.cat([model.weight, torch.zeros_like(model.weight)], 1))
        wide.bias.copy_(model.bias)
    both = torch.cat([x, x], 1)
    assert case.run(wide, both, y, unit_threat(case.norm, float("inf")), seed=0).accuracy == 0


@every_attack
def test_no_strength_is_spent_on_an_input_that_nobody_can_change(case: Case) -> None:
    """The model looks at two inputs, and most closely at the one that is fixed."""
    one, x, y, distance = one_feature()
    model = nn.Linear(2, 2).double()
    with torch.no_grad():
        model.weight.copy_(torch.cat([one.weight, 10 * one.weight], 1))
        model.bias.copy_(one.bias)
    bounds = Bounds(low=UNIT.low, high=UNIT.high, fixed=torch.tensor([False, True]))
    both = torch.cat([x, torch.zeros_like(x)], 1)
    for record in range(len(x)):
        for factor, broken in ((0.99, False), (1.05, True)):
            threat = Threat(norm=case.norm, epsilon=factor * float(distance[record]), bounds=bounds)
            result = case.run(model, both[record][None], y[record][None], threat, seed=0)
            assert bool(result.fooled[0]) is broken
            assert float(result.x[0, 1]) == 0


@every_attack
def test_equal_seeds_give_equal_results(case: Case, trained: nn.Module, records: Records, wdbc: Dataset) -> None:
    threat = Threat(norm=case.norm, epsilon=0.3, bounds=wdbc.bounds)
    one, again = (case.run(trained, *records, threat, seed=4) for _ in range(2))
    assert torch.equal(one.x, again.x)


@every_attack
def test_an_attack_leaves_records_labels_weights_and_gradients_alone(
    case: Case, trained: nn.Module, records: Records, wdbc: Dataset
) -> None:
    x, y, weights = records[0].clone(), records[1].clone(), copy.deepcopy(trained.state_dict())
    case.run(trained, x, y, Threat(norm=case.norm, epsilon=0.3, bounds=wdbc.bounds), seed=4)
    assert torch.equal(x, records[0])
    assert torch.equal(y, records[1])
    assert all(torch.equal(value, weights[name]) for name, value in trained.state_dict().items())
    assert all(parameter.grad is None for parameter in trained.parameters())


@every_attack
def test_a_result_holds_no_graph(case: Case, trained: nn.Module, records: Records, wdbc: Dataset) -> None:
    threat = Threat(norm=case.norm, epsilon=0.3, bounds=wdbc.bounds)
    assert not case.run(trained, *records, threat, seed=4).x.requires_grad


@every_attack
def test_an_attack_works_where_gradients_are_off(
    case: Case, trained: nn.Module, records: Records, wdbc: Dataset
) -> None:
    threat = Threat(norm=case.norm, epsilon=0.3, bounds=wdbc.bounds)
    usual = case.run(trained, *records, threat, seed=4)
    with torch.no_grad():
        assert torch.equal(case.run(trained, *records, threat, seed=4).x, usual.x)


RANDOM = ("random_noise", "restarts", "apgd", "square", "targeted_pgd", "hop_skip_jump", "spsa")
"""What draws numbers by record."""


@pytest.mark.parametrize("case", [c for c in CASES if not any(word in c.id for word in RANDOM)])  # type: ignore[attr-defined, operator]
def test_a_records_result_does_not_depend_on_the_other_records(
    case: Case, trained: nn.Module, records: Records, wdbc: Dataset
) -> None:
    threat = Threat(norm=case.norm, epsilon=0.3, bounds=wdbc.bounds)
    model, x, y = trained.double(), records[0][:4].double(), records[1][:4]
    x = threat.bounds.clip(x)
    together = case.run(model, x, y, threat, seed=4).x
    apart = [case.run(model, x[i][None], y[i][None], threat, seed=4).x for i in range(len(x))]
    torch.testing.assert_close(together, torch.cat(apart), rtol=0, atol=1e-10)


class Gap(nn.Module):
    """Right wherever it answers: the first logit is a square root that is NaN beyond 0.1."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.label = label

    def forward(self, x: Tensor) -> Tensor:
        root = (0.1 - x[:, 0]).sqrt()
        return torch.stack([root, 0 * root] if self.label == 0 else [0 * root, root], 1)


@every_attack
@pytest.mark.parametrize("label", [0, 1])
def test_a_record_that_can_be_moved_where_the_model_answers_nan_is_fooled(case: Case, label: int) -> None:
    x, y = torch.zeros(4, 1), torch.full((4,), label)
    result = case.run(Gap(label), x, y, unit_threat(case.norm, 0.5), seed=0)
    assert result.fooled.all()
    assert result.invalid == 4


class Silent(nn.Module):
    """Answers NaN, or infinity, to every second record."""

    def __init__(self, answer: float) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.stack([x[:, 0] + 9, x[:, 0]], 1)
        silent = torch.arange(len(x)) % 2 == 0
        return logits.masked_fill(silent[:, None], self.answer)


@every_attack
@pytest.mark.parametrize("answer", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_no_numbers_count_as_fooled(case: Case, answer: float) -> None:
    x, y = torch.zeros(5, 2), torch.zeros(5, dtype=torch.long)
    result = case.run(Silent(answer), x, y, unit_threat(case.norm, 0.1), seed=0)
    assert result.fooled.tolist() == [True, False, True, False, True]
    assert result.invalid == 3


@every_attack
@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_restored(case: Case, training: bool) -> None:
    modes: list[bool] = []
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train(training)
    model.register_forward_hook(lambda module, *_: modes.append(module.training))
    case.run(model, torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), unit_threat(case.norm, 0.1), seed=0)
    assert model.training is training
    assert not any(modes)


def test_the_mode_of_each_layer_is_restored() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train()
    model[1].eval()
    build("attack", "fgsm").run(model, torch.zeros(3, 2), torch.zeros(3).long(), unit_threat("linf", 0.1), seed=0)  # type: ignore[attr-defined]
    assert [layer.training for layer in model] == [True, False]


def test_the_mode_is_restored_after_an_error() -> None:
    model = nn.Linear(2, 2).train()
    with pytest.raises(ZeroDivisionError):
        Cheat(what="raise").run(model, torch.zeros(3, 2), torch.zeros(3).long(), unit_threat("linf", 0.1), seed=0)
    assert model.training


class Cheat(Attack):
    """An author who breaks the rules in one way."""

    name: Literal["cheat"] = "cheat"
    what: str

    def perturb(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draw: Draw) -> Tensor:  # noqa: PLR0911
        match self.what:
            case "far":
                return x + 100 * torch.sign(0.1 - x)
            case "out of bounds":
                return torch.full_like(x, 7.0)
            case "NaN":
                return torch.full_like(x, torch.nan)
            case "infinity":
                return torch.full_like(x, torch.inf)
            case "shape":
                return x[:-1]
            case "broadcast":
                return x[:1]
            case "raise":
                raise ZeroDivisionError
            case "records in place":
                return x.add_(1.0)
            case "labels in place":
                y.sub_(1).abs_()
                return x
            case "training mode":
                model.train()
                return x
        raise AssertionError(self.what)


def cheat(what: str, epsilon: float = 0.25, norm: Norm = "linf") -> tuple[Attacked, Tensor]:
    """The result, and the original records."""
    model, x, y, _ = one_feature()
    return Cheat(what=what).run(model, x.clone(), y, unit_threat(norm, epsilon), seed=0), x


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("what", ["far", "out of bounds", "records in place"])
def test_what_lies_outside_the_threat_model_is_projected_back(what: str, norm: Norm) -> None:
    result, x = cheat(what, norm=norm)
    assert ((result.x - x).abs() <= 0.25 + 1e-12).all()
    assert (result.x.abs() <= 1).all()


def test_a_far_proposal_fools_only_what_lies_within_reach() -> None:
    _, _, _, distance = one_feature()
    assert torch.equal(cheat("far")[0].fooled, distance < 0.25)


@pytest.mark.parametrize("what", ["NaN", "infinity"])
def test_a_proposal_that_is_no_number_counts_as_the_record_itself(what: str) -> None:
    result, x = cheat(what)
    assert torch.equal(result.x, x)
    assert not result.fooled.any()
    assert result.invalid == 0


@pytest.mark.parametrize("what", ["shape", "broadcast"])
def test_a_proposal_of_another_shape_is_refused(what: str) -> None:
    with pytest.raises(ValueError, match=r"perturb returned shape \([41], 1\); it must keep \(5, 1\)"):
        cheat(what)


def test_an_attack_cannot_change_the_labels_it_is_judged_by() -> None:
    assert not cheat("labels in place")[0].fooled.any()


def test_an_attack_is_judged_in_evaluation_mode_whatever_it_did() -> None:
    model = nn.Sequential(nn.Identity(), nn.Dropout(1.0)).eval()
    x = torch.tensor([[0.0, 1.0]]).expand(6, 2)
    result = Cheat(what="training mode").run(model, x, torch.ones(6).long(), unit_threat("linf", 0.1), seed=0)
    assert not result.fooled.any()


def test_the_judge_cannot_be_replaced() -> None:
    assert getattr(Attack.run, "__final__", False)


class Fixed(nn.Module):
    """Returns logits of a fixed shape."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return torch.ones(self.shape) * x.sum()


@every_attack
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
@pytest.mark.parametrize(
    ("shape", "label", "message"),
    [
        pytest.param((4,), 0, r"returned shape \(4,\); logits must be \(4, classes\)", id="flat"),
        pytest.param((4, 2, 1), 0, r"returned shape \(4, 2, 1\); logits must be \(4, classes\)", id="deep"),
        pytest.param((3, 2), 0, r"returned shape \(3, 2\); logits must be \(4, classes\)", id="short"),
        pytest.param((4, 2), 2, "label 2 has no logit: the model has 2 classes", id="label too great"),
        pytest.param((4, 2), -1, "label -1 has no logit", id="label negative"),
    ],
)
def test_logits_that_do_not_fit_are_refused(
    case: Case, epsilon: float, shape: tuple[int, ...], label: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        case.run(Fixed(*shape), torch.zeros(4, 2), torch.full((4,), label), unit_threat(case.norm, epsilon), seed=0)


@every_attack
@pytest.mark.parametrize("value", [1.1, -1.1, float("inf"), float("nan")])
def test_a_record_outside_the_bounds_is_refused(case: Case, value: float) -> None:
    x = torch.tensor([[0.0, 0.0], [value, 0.0]])
    told = r"record 1 of 0 … 1 lies outside the bounds of a valid input by (0\.1|inf|nan), at .*; 1e-05 are allowed"
    with pytest.raises(ValueError, match=told):
        case.run(nn.Linear(2, 2), x, torch.zeros(2).long(), unit_threat(case.norm, 0.1), seed=0)


@pytest.mark.parametrize(("value", "refused"), [(5000.004, False), (5000.01, True)])
def test_a_record_that_rounding_moves_past_a_large_bound_is_attacked(value: float, refused: bool) -> None:
    """A data set with such a record is accepted, too."""
    bounds = Bounds(low=torch.zeros(2), high=torch.tensor([1.0, 5000.0]))
    x, threat = torch.tensor([[0.5, value]]), Threat(norm="linf", epsilon=0.1, bounds=bounds)
    with pytest.raises(ValueError, match="record 0 of 0 … 0 lies outside") if refused else nullcontext():
        PGD(steps=1).run(nn.Linear(2, 2), x, torch.zeros(1).long(), threat, seed=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_worst_case_is_at_most_each_attacks_accuracy(
    norm: Norm, trained: nn.Module, records: Records, wdbc: Dataset
) -> None:
    threat = Threat(norm=norm, epsilon=0.3, bounds=wdbc.bounds)
    cases = [parameters.values[0] for parameters in CASES]  # type: ignore[attr-defined]
    results = [case.run(trained, *records, threat, seed=0) for case in cases if case.norm == norm]
    worst = 1 - float(torch.stack([result.fooled for result in results]).any(0).double().mean())
    assert all(worst <= result.accuracy for result in results)
    assert worst <= float((trained(records[0]).argmax(1) == records[1]).double().mean())


def test_judging_needs_no_attack() -> None:
    model, x, y, distance = one_feature()
    result = judge_proposal(model, x, y, x + 0.25 * torch.sign(0.1 - x), unit_threat("linf", 0.25))
    assert torch.equal(result.fooled, distance < 0.25)


def test_losses_agree_with_their_definitions() -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 4)))
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    for row, label, entropy, deficit in zip(logits, y, cross_entropy(logits, y), margin(logits, y), strict=True):
        torch.testing.assert_close(entropy, row.exp().sum().log() - row[label])
        torch.testing.assert_close(deficit, max(row[other] for other in range(4) if other != label) - row[label])
    assert torch.equal(margin(logits, y) > 0, logits.argmax(1) != y)


@pytest.mark.parametrize(
    ("chosen", "label"),
    [
        ("square", "square"),
        ({"name": "square", "queries": 5000}, "square_5000"),
        ({"name": "square", "window": 0.5}, "square_window0.5"),
        ("apgd", "apgd_ce"),
        ({"name": "apgd", "restarts": 5}, "apgd_ce_x5"),
        ({"name": "apgd", "loss": "dlr", "steps": 100, "restarts": 5}, "apgd_dlr_100_x5"),
        ("fab", "fab"),
        ({"name": "fab", "steps": 100, "restarts": 5}, "fab_100_x5"),
        ("deepfool", "deepfool"),
        ({"name": "deepfool", "overshoot": 0.1, "rivals": 3}, "deepfool_overshoot0.1_rivals3"),
    ],
)
def test_a_label_tells_settings_apart(chosen: object, label: str) -> None:
    assert build("attack", chosen).label == label  # type: ignore[attr-defined]


def test_a_network_that_its_records_do_not_reach_withstands_every_gradient() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.network(torch.bucketize(x, torch.tensor([0.5])).float())

    x = torch.full((4, 2), 0.2)
    model = Cut()
    y = model(x).argmax(1)
    for name in ("fgsm", "pgd"):
        attack = build("attack", name)
        assert isinstance(attack, Attack)
        assert attack.run(model, x, y, unit_threat("linf", 0.1), seed=0).accuracy == 1
