"""Every attack on a GPU stays within its ball, fools as many as on the CPU, and draws the same twice."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks.adaptive import LogitsOfProbabilities, NearBy
from assay.attacks.adversarial_patch import AdversarialPatch, stuck
from assay.attacks.expectation import Expectation
from assay.attacks.gradients import input_gradient
from assay.attacks.pgd import PGD
from assay.attacks.straight_through import straight_through
from assay.devices import repeatable
from assay.evaluations.attack_runs import FixedDraws
from assay.evaluations.slopes import true_slopes
from assay.models.black_box import why_no_gradient
from assay.seeds import Draw, stream
from assay.threats import Threat
from tests.attacks.test_attacks import CASES, Case
from tests.gpu.devices import ARCHITECTURES, CPU, DEVICE, UNIT, generator, records, trained

every_attack = pytest.mark.parametrize("case", CASES)
NEAR = {"linf": 0.1, "l2": 0.7}
"""A radius that about half of the records withstand."""


@every_attack
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_attack_does_what_it_does_on_the_cpu(case: Case, name: str) -> None:
    x, y = records(name, 48, start=900)
    threat = Threat(norm=case.norm, epsilon=NEAR[case.norm], bounds=UNIT)
    here = case.run(trained(name), x, y, threat, seed=3)
    model = trained(name).to(DEVICE)
    there, again = (case.run(model, x.to(DEVICE), y.to(DEVICE), threat, seed=3) for _ in range(2))
    assert torch.equal(there.x, again.x)
    assert (threat.distance(there.x.cpu(), x) <= threat.epsilon + 2e-6).all()
    assert bool(((there.x >= 0) & (there.x <= 1)).all())
    assert torch.equal(there.fooled, model(there.x).argmax(1) != y.to(DEVICE))
    assert abs(int(there.fooled.sum()) - int(here.fooled.sum())) <= 2


@every_attack
def test_a_curve_is_that_of_the_cpu(case: Case) -> None:
    x, y = records("cnn", 48, start=900)
    threat = Threat(norm=case.norm, epsilon=0.0, bounds=UNIT)
    radii = [share * NEAR[case.norm] for share in (0, 0.5, 1, 2)]
    found = []
    for device in (DEVICE, CPU):
        model = trained("cnn").to(device)
        through = model if case.attack.needs_surrogate else None
        known = records("cnn", 100, start=1000)[0].to(device)
        curve = case.attack.curve(
            model, x.to(device), y.to(device), threat, radii, seed=3, through=through, known=known
        )
        found.append([int(curve[radius].fooled.sum()) for radius in sorted(curve)])
    assert all(abs(one - other) <= 2 for one, other in zip(*found, strict=True))


class Recurrent(nn.Module):
    """A user's own network around torch's recurrent layer."""

    def __init__(self, kind: type[nn.RNNBase], dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.head = kind(8, 12, num_layers=2, dropout=dropout, batch_first=True), nn.Linear(12, 10)
        with torch.no_grad():
            for weight in self.parameters():
                weight.mul_(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_recurrent_layer_of_torch_is_attacked_in_evaluation_mode(kind: type[nn.RNNBase], dropout: float) -> None:
    x, y = records("lstm", 48)
    model = Recurrent(kind, dropout).eval()
    y = model(x).argmax(1)
    there = copy.deepcopy(model).to(DEVICE)
    assert why_no_gradient(there, x[:2].to(DEVICE)) == ""
    threat = Threat(norm="linf", epsilon=0.2, bounds=UNIT)
    with repeatable(tf32=False):
        ours = PGD(steps=5).run(there, x.to(DEVICE), y.to(DEVICE), threat, seed=0)
    theirs = PGD(steps=5).run(model, x, y, threat, seed=0)
    assert int(theirs.fooled.sum()) > 5
    assert abs(int(ours.fooled.sum()) - int(theirs.fooled.sum())) <= 2
    assert not any(layer.training for layer in there.modules())


class Rounds(nn.Module):
    """Rounds its inputs, and answers with probabilities."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network((8 * x).round() / 8).softmax(1)


def test_a_stand_in_leads_where_the_model_does_not() -> None:
    x, y = (one.to(DEVICE) for one in records("cnn", 32))
    model = Rounds(trained("cnn")).to(DEVICE)
    bridged = straight_through(LogitsOfProbabilities(model), x)
    point = x.clone().requires_grad_(True)
    gradient = input_gradient(bridged(point).gather(1, y[:, None]).sum(), point)
    assert float((gradient != 0).double().mean()) > 0.5
    threat = Threat(norm="linf", epsilon=0.3, bounds=UNIT)
    assert PGD(steps=10).run(model, x, y, threat, seed=0, through=bridged).accuracy < 0.7


class Drops(nn.Module):
    """Answers at random, in evaluation mode too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(nn.functional.dropout(x, 0.2, training=True))


def test_a_model_that_answers_at_random_is_judged_by_the_same_draws() -> None:
    x, y = (one.to(DEVICE) for one in records("cnn", 32))
    model = Drops(trained("cnn")).to(DEVICE)
    judge = FixedDraws(model, 4, seed=7)
    state = torch.cuda.get_rng_state(DEVICE) if DEVICE.type == "cuda" else torch.get_rng_state()
    with torch.no_grad():
        assert torch.equal(judge(x), judge(x))
    after = torch.cuda.get_rng_state(DEVICE) if DEVICE.type == "cuda" else torch.get_rng_state()
    assert torch.equal(state, after)
    threat = Threat(norm="linf", epsilon=0.2, bounds=UNIT)
    for through in (Expectation(model, 3), Expectation(NearBy(model, 0.05 * x.std(0)), 3)):
        assert PGD(steps=5).run(judge, x, y, threat, seed=0, through=through).accuracy < 1


def test_slopes_are_those_of_the_cpu() -> None:
    x, y = records("cnn", 32)
    threat = Threat(norm="linf", epsilon=0.1, bounds=UNIT)
    ours, theirs = (
        true_slopes(trained("cnn").to(d), x.to(d), y.to(d), threat, Draw(stream(0, "slopes"), len(x)))
        for d in (DEVICE, CPU)
    )
    assert ours.verdict == theirs.verdict
    assert ours.figure == pytest.approx(theirs.figure, abs=0.02)


def test_a_patch_is_that_of_the_cpu() -> None:
    x, y = records("cnn", 64)
    found: list[Any] = []
    for device in (DEVICE, CPU):
        model = trained("cnn").double().to(device)
        patch = AdversarialPatch(steps=10, batch=32)
        made = patch.optimised(model, x.double().to(device), y.to(device), UNIT, target=None, generator=generator())
        places = patch.places(x.double().to(device), generator(1))
        found.append(stuck(x.double().to(device), made, places, UNIT).cpu())
    torch.testing.assert_close(*found, rtol=0, atol=1e-6)
