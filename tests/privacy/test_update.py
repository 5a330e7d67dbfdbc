"""The private update does what its accountants assume."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from assay import seeds
from assay.data.augmentation import Jitter
from assay.errors import IncompatibleRecipeError, SpecError, TrainingError, UserError
from assay.objectives.base import Batch
from assay.objectives.pgd import AdversarialPGD
from assay.privacy.accounting import rdp_epsilon
from assay.privacy.clipping import STABILITY
from assay.privacy.update import PrivateUpdate
from assay.recipes import Privacy, Recipe, Training
from assay.seeds import Draw
from assay.study.reading import build_study
from assay.threats import Bounds
from assay.training.build import build_trainer
from assay.training.feed import InMemory
from assay.training.hooks.base import Hook
from assay.training.loop import Trainer

Blobs = Callable[..., tuple[Tensor, Tensor]]
Network = Callable[..., nn.Module]
SETTINGS = Privacy(epsilon=2.0, max_grad_norm=0.5)
RECORDS, BATCH, STEPS = 200, 20, 100


def update(seed: int = 0, records: int = RECORDS, batch_size: int = BATCH, steps: int = STEPS) -> PrivateUpdate:
    return PrivateUpdate(nn.Linear(1, 2), SETTINGS, records=records, batch_size=batch_size, steps=steps, seed=seed)


def test_batch_sizes_are_binomial() -> None:
    private, steps = update(), 3000
    sizes = np.array([len(private.batch(step)) for step in range(steps)])
    variance = RECORDS * 0.1 * 0.9
    assert sizes.mean() == pytest.approx(BATCH, abs=4 * np.sqrt(variance / steps))
    assert sizes.var() == pytest.approx(variance, rel=4 * np.sqrt(2 / steps))
    expected = steps * np.diff(stats.binom.cdf([-1, 13, 16, 18, 20, 22, 24, 27, RECORDS], RECORDS, 0.1))
    observed = np.histogram(sizes, [-0.5, 13.5, 16.5, 18.5, 20.5, 22.5, 24.5, 27.5, RECORDS])[0]
    assert stats.chisquare(observed, expected, sum_check=False).pvalue > 0.001


def test_every_record_is_as_likely_as_every_other() -> None:
    private, steps = update(), 3000
    seen = np.bincount(np.concatenate([private.batch(step) for step in range(steps)]), minlength=RECORDS)
    assert stats.chisquare(seen, np.full(RECORDS, steps * 0.1), sum_check=False).pvalue > 0.001


def test_steps_are_sampled_independently() -> None:
    private = update()
    drawn = np.zeros((1000, RECORDS))
    for step in range(1000):
        drawn[step, private.batch(step)] = 1
    correlation = np.corrcoef(drawn[:-1].ravel(), drawn[1:].ravel())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(drawn[1:].size)


def test_a_batch_holds_each_record_once_in_order() -> None:
    batch = update().batch(0)
    assert np.array_equal(batch, np.unique(batch))
    assert np.array_equal(batch, update().batch(0))
    assert not np.array_equal(batch, update(seed=1).batch(0))


def test_a_batch_as_large_as_the_data_takes_everyone(given_noise: float) -> None:
    everyone = update(records=5, batch_size=8, steps=10)
    assert np.array_equal(everyone.batch(0), np.arange(5))
    assert everyone.mechanism(1).sample_rate == 1.0
    ones = everyone.finish([torch.ones(1_000_000)], np.arange(5), 0)[0]
    assert float(ones.mean()) == pytest.approx(1 / 5, abs=1e-3)


def test_the_noise_is_normal_with_the_promised_deviation() -> None:
    private = update()
    (noise,) = private.finish([torch.zeros(200_000)], np.arange(3), 7)
    deviation = private.planned.noise_multiplier * SETTINGS.max_grad_norm / BATCH
    assert float(noise.mean()) == pytest.approx(0, abs=4 * deviation / np.sqrt(200_000))
    assert float(noise.var()) == pytest.approx(deviation**2, rel=4 * np.sqrt(2 / 200_000))
    assert stats.kstest(noise.numpy() / deviation, "norm").pvalue > 0.001


def test_the_gradient_is_divided_by_the_expected_batch_size() -> None:
    private, total = update(), [torch.linspace(-1, 1, 50)]
    for batch in (np.arange(0), np.arange(3), np.arange(150)):
        signal = private.finish(total, batch, 4)[0] - private.finish([torch.zeros(50)], batch, 4)[0]
        torch.testing.assert_close(signal, total[0] / BATCH, rtol=0, atol=1e-6)


def test_the_expected_batch_size_is_exact_however_few_records_there_are(given_noise: float) -> None:
    private = update(records=7, batch_size=3, steps=10)
    (signal,) = private.finish([torch.full((1,), 1e6)], np.arange(2), 0)
    assert float(signal) == pytest.approx(1e6 / 3, rel=1e-4)
    assert private.mechanism(10).sample_rate == 3 / 7


def test_equal_seeds_give_equal_noise() -> None:
    zeros = [torch.zeros(50), torch.zeros(3, 4)]
    one, same, other = (update(seed=seed).finish(zeros, np.arange(3), 5) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_no_two_steps_and_no_two_parameters_share_noise() -> None:
    private = update()
    drawn = [g for step in range(6) for g in private.finish([torch.zeros(5000), torch.zeros(5000)], np.arange(3), step)]
    values = torch.stack(drawn)
    assert len(values.unique()) > 0.99 * values.numel()
    between = torch.corrcoef(values) - torch.eye(12)
    assert between.abs().max() < 4.5 / np.sqrt(5000)


def test_noise_and_sampling_do_not_share_a_stream() -> None:
    private = update()
    uniform = seeds.stream(0, "sample", 3).random(5000)
    (noise,) = private.finish([torch.zeros(5000)], np.arange(3), 3)
    assert abs(np.corrcoef(uniform, noise.numpy())[0, 1]) < 4.5 / np.sqrt(5000)


def test_the_noise_is_calibrated_to_the_budget() -> None:
    private = update()
    planned = private.mechanism(STEPS)
    assert (planned.sample_rate, planned.steps, planned.delta) == (0.1, STEPS, SETTINGS.delta)
    assert planned.noise_multiplier == private.planned.noise_multiplier
    assert 0.99 * SETTINGS.epsilon <= rdp_epsilon(planned) <= SETTINGS.epsilon
    assert rdp_epsilon(private.mechanism(STEPS // 2)) < rdp_epsilon(planned)


def test_the_sum_is_clipped_to_the_settings(blobs: Blobs) -> None:
    x, y = blobs(1)
    model = nn.Linear(5, 2)
    private = PrivateUpdate(model, SETTINGS, records=RECORDS, batch_size=BATCH, steps=STEPS, seed=0)
    total = private.gradients(100 * F.cross_entropy(model(x), y, reduction="none"))
    assert float(torch.cat([g.flatten() for g in total]).norm()) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("delta", [1 / RECORDS, 0.01, 0.5])
def test_a_delta_of_one_in_the_number_of_records_or_more_is_refused(delta: float) -> None:
    settings = SETTINGS.model_copy(update={"delta": delta})
    with pytest.raises(UserError, match=r"privacy.delta: δ = .* is not below 1/n = 0.005.*set it below 0.005"):
        PrivateUpdate(nn.Linear(1, 2), settings, records=RECORDS, batch_size=BATCH, steps=STEPS, seed=0)


def test_a_delta_below_one_in_the_number_of_records_is_taken() -> None:
    settings = SETTINGS.model_copy(update={"delta": 0.0049})
    private = PrivateUpdate(nn.Linear(1, 2), settings, records=RECORDS, batch_size=BATCH, steps=STEPS, seed=0)
    assert private.mechanism(STEPS).delta == 0.0049


def test_a_layer_that_mixes_records_is_refused() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    with pytest.raises(IncompatibleRecipeError, match=r"layer '1' is BatchNorm1d, which mixes the records of a batch"):
        PrivateUpdate(model, SETTINGS, records=RECORDS, batch_size=BATCH, steps=STEPS, seed=0)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"training": {"sampler": "weighted"}}, "sampler"),
        ({"privacy": {"epsilon": 2, "sampling": "shuffle"}}, "sampling"),
        ({"privacy": {"epsilon": 2, "sample_rate": 0.1}}, "sample_rate"),
    ],
)
def test_a_recipe_that_asks_for_a_sampler_of_its_own_is_refused_by_name(change: dict[str, Any], key: str) -> None:
    recipe = {"privacy": {"epsilon": 2}, **change}
    made = {"dataset": {"name": "arrays", "path": "made.npz", "low": 0, "high": 1}, "recipes": {"dp": recipe}}
    with pytest.raises(SpecError, match=f"cohorts.made.recipes.dp.* unknown key '{key}'; allowed: "):
        build_study({"name": "made", "cohorts": {"made": made}}, "made.yaml")


@pytest.mark.parametrize(
    "training",
    [
        {"optimizer": "adam", "schedule": "cosine"},
        {"optimizer": "sgd", "averaging": 0.9, "records_at_once": 7},
    ],
    ids=["adam", "pieces"],
)
def test_whatever_brings_the_records_is_told_by_the_accounted_draws_which(
    network: Network, blobs: Blobs, blob_bounds: Bounds, training: dict[str, Any]
) -> None:
    """No sampler can stand between the two: a feed has no say in it, and no setting of training changes it."""

    class Listening(InMemory):
        def follow(self, batches: Sequence[np.ndarray]) -> Iterator[tuple[Tensor, Tensor]]:
            told.extend(batches)
            return super().follow(batches)

    told: list[np.ndarray] = []
    x, y = blobs(40, torch.float64)
    recipe = Recipe(privacy=SETTINGS, training=Training(epochs=20, batch_size=8, learning_rate=0.01, **training))
    private = build_trainer(network(torch.float64), recipe, Listening(x, y), y, bounds=blob_bounds, seed=9)
    private.run()
    assert private.mechanism is not None
    assert (private.mechanism.sample_rate, private.mechanism.steps) == (8 / 40, 100)
    drawn = [np.flatnonzero(seeds.stream(9, "sample", step).random(40) < 8 / 40) for step in range(100)]
    assert np.array_equal(np.concatenate(told), np.concatenate(drawn))


def test_a_private_training_does_not_end_by_the_loss_of_a_record(
    network: Network, blobs: Blobs, blob_bounds: Bounds
) -> None:
    """Its end would tell of the record; what it leaves behind is what it leaves without it."""
    x, y = blobs(40)
    private = Recipe(privacy=SETTINGS, training=Training(epochs=3, batch_size=40, optimizer="sgd", learning_rate=0.1))
    weights = []
    for last in (1e38, math.inf):
        x[-1] = last
        one = build_trainer(network(torch.float32), private, x, y, bounds=blob_bounds, seed=9)
        one.run()
        weights.append(torch.cat([p.detach().flatten() for p in one.model.parameters()]))
    assert weights[0].isfinite().all()
    assert torch.equal(*weights)
    with pytest.raises(TrainingError, match="the loss is"):
        build_trainer(network(torch.float32), Recipe(training=private.training), x, y, bounds=blob_bounds, seed=9).run()


@pytest.mark.parametrize(("clipping", "length"), [("flat", 1e-3), ("automatic", 0.5 * 1e-3 / (1e-3 + STABILITY))])
def test_gradients_are_clipped_as_the_settings_say(blobs: Blobs, clipping: str, length: float) -> None:
    """A short gradient is left alone by flat clipping, and brought near the bound by automatic clipping."""
    x, y = blobs(1, torch.float64)
    model = nn.Linear(5, 2).double()
    found = torch.autograd.grad(F.cross_entropy(model(x), y), model.parameters())
    short = 1e-3 / float(torch.cat([g.flatten() for g in found]).norm())
    settings = SETTINGS.model_copy(update={"clipping": clipping})
    private = PrivateUpdate(model, settings, records=RECORDS, batch_size=BATCH, steps=STEPS, seed=0)
    total = private.gradients(short * F.cross_entropy(model(x), y, reduction="none"))
    assert float(torch.cat([g.flatten() for g in total]).norm()) == pytest.approx(length, rel=1e-6)


def trainer(
    network: Network, blobs: Blobs, bounds: Bounds, objective: object = "standard", privacy: Privacy = SETTINGS
) -> Trainer:
    recipe = Recipe(
        objective=objective,
        privacy=privacy,
        training=Training(epochs=1, batch_size=20, optimizer="sgd", learning_rate=0.1, momentum=0.0),
    )
    return build_trainer(network(torch.float64), recipe, *blobs(40, torch.float64), bounds=bounds, seed=9)


class States(nn.Module):
    """A recurrent network with dropout between its layers, over positions of a signal (n, 1, length)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(1, 4, 2, dropout=0.5, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.mT)[0][:, -1])


DRAWS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "batches": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(5, 2)), {}),
    "dropout": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 2)), {}),
    "dropout of channels": (
        lambda: nn.Sequential(nn.Conv1d(1, 8, 5), nn.Dropout1d(0.5), nn.Flatten(), nn.Linear(8, 2)),
        {},
    ),
    "dropout between layers": (States, {}),
    "augmentation": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(5, 2)), {"data": ("jitter",)}),
    "pgd": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(5, 2)),
        {"objective": {"name": "pgd", "epsilon": 0.3, "steps": 1, "relative_step": 0.1}},
    ),
    "gaussian_noise": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(5, 2)),
        {"objective": {"name": "gaussian_noise", "sigma": 0.5}},
    ),
    "trades": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(5, 2)),
        {"objective": {"name": "trades", "epsilon": 0.3, "steps": 1}},
    ),
}


def drawing(name: str, noise: str, blobs: Blobs, bounds: Bounds, *, seed: int = 9) -> Trainer:
    """A private trainer whose steps draw something."""
    make, choices = DRAWS[name]
    torch.manual_seed(0)
    x, y = blobs(40)
    recipe = Recipe(
        privacy=SETTINGS.model_copy(update={"noise": noise}),
        training=Training(epochs=1, batch_size=20, optimizer="sgd", learning_rate=0.1),
        **choices,
    )
    bounds = Bounds(low=bounds.low[None], high=bounds.high[None])
    return build_trainer(make(), recipe, x[:, None], y, bounds=bounds, seed=seed)


def clipped_sum(trainer: Trainer) -> Tensor:
    """What the trainer's first step would release of all records, but for the noise."""
    trainer.model.train()
    pieces = trainer.pieces(np.arange(40))
    fed = trainer._feed.follow([piece.rows.ravel() for piece in pieces])
    gradients, _ = trainer._own_gradients(pieces, fed, total=40)
    return torch.cat([gradient.flatten() for gradient in gradients])


def weights(trainer: Trainer) -> Tensor:
    trainer.run()
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


@pytest.mark.parametrize("name", DRAWS)
def test_nothing_that_entropy_training_draws_comes_from_the_seed_of_the_recipe(
    name: str, blobs: Blobs, blob_bounds: Bounds, given_noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whoever reads the seed in a report knows what each record was given, and then noise no longer hides it."""
    if name != "batches":
        one, other = (clipped_sum(drawing(name, "entropy", blobs, blob_bounds)) for _ in range(2))
        assert not torch.allclose(one, other, rtol=1e-3, atol=0)
    monkeypatch.setattr(seeds, "entropy", lambda: 7)
    known, same = (weights(drawing(name, "entropy", blobs, blob_bounds, seed=seed)) for seed in (9, 10))
    assert torch.equal(known, same)
    monkeypatch.setattr(seeds, "entropy", lambda: 8)
    assert not torch.equal(known, weights(drawing(name, "entropy", blobs, blob_bounds)))


@pytest.mark.parametrize("name", DRAWS)
def test_seeded_training_draws_the_same_again(name: str, blobs: Blobs, blob_bounds: Bounds, given_noise: float) -> None:
    one, same, other = (weights(drawing(name, "seeded", blobs, blob_bounds, seed=seed)) for seed in (9, 9, 10))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", ["dropout", "dropout of channels", "dropout between layers"])
def test_what_entropy_training_drops_does_not_come_from_the_few_bits_of_torch(
    name: str, blobs: Blobs, blob_bounds: Bounds, given_noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds, "torch_seed", lambda *_: 0)
    for noise in ("seeded", "entropy"):
        one, other = (clipped_sum(drawing(name, noise, blobs, blob_bounds)) for _ in range(2))
        assert torch.equal(one, other) == (noise == "seeded")


def noise(step: int, parameters: list[Tensor], noise_multiplier: float) -> list[Tensor]:
    """The noise of one step, drawn again from its seed."""
    generator = seeds.stream(9, "noise", step)
    scale = noise_multiplier * SETTINGS.max_grad_norm
    return [scale * torch.from_numpy(generator.standard_normal(p.shape, np.float32)).double() for p in parameters]


def test_an_empty_batch_still_makes_a_noisy_step(
    network: Network, blobs: Blobs, blob_bounds: Bounds, given_noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PrivateUpdate, "batch", lambda self, step: np.empty(0, int))
    private = trainer(network, blobs, blob_bounds)
    before = [p.detach().clone() for p in private.model.parameters()]
    private.run()
    assert np.isnan(private.losses).all()
    expected = before
    for step in range(2):
        expected = [w - 0.1 * n / 20 for w, n in zip(expected, noise(step, before, given_noise), strict=True)]
    for ours, old, theirs in zip(private.model.parameters(), before, expected, strict=True):
        assert not torch.equal(ours, old)
        torch.testing.assert_close(ours.detach(), theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("objective", ["standard", {"name": "pgd", "epsilon": 0.3, "steps": 3}])
def test_a_private_epoch_equals_a_loop_over_records(
    network: Network, blobs: Blobs, blob_bounds: Bounds, given_noise: float, objective: object
) -> None:
    x, y = blobs(40, torch.float64)
    private = trainer(network, blobs, blob_bounds, objective)
    plain = copy.deepcopy(network(torch.float64))
    for step in range(2):
        batch = np.flatnonzero(seeds.stream(9, "sample", step).random(40) < 0.5)
        chosen, labels = x[batch], y[batch]
        if objective != "standard":
            draw = Draw(seeds.stream(9, "craft", step), len(batch))
            attack = AdversarialPGD(epsilon=0.3, steps=3)
            chosen = attack.craft(plain, Batch(x=chosen, y=labels, bounds=blob_bounds, draw=draw))
        parameters = list(plain.parameters())
        total = noise(step, [p.detach() for p in parameters], given_noise)
        for record, label in zip(chosen, labels, strict=True):
            gradient = torch.autograd.grad(F.cross_entropy(plain(record[None]), label[None]), parameters)
            factor = min(1.0, 0.5 / float(torch.cat([g.flatten() for g in gradient]).norm()))
            total = [t + factor * g for t, g in zip(total, gradient, strict=True)]
        with torch.no_grad():
            for parameter, gradient in zip(parameters, total, strict=True):
                parameter.sub_(0.1 * gradient / 20)
    private.run()
    for ours, theirs in zip(private.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("objective", ["standard", {"name": "pgd", "epsilon": 0.3, "steps": 3}])
def test_copies_of_a_record_are_averaged_before_their_gradient_is_clipped(
    network: Network, blobs: Blobs, blob_bounds: Bounds, given_noise: float, objective: object
) -> None:
    """Against a loop over records and over their copies, each augmented, attacked and answered by itself."""
    copies, jitter, bound = 3, Jitter(gain=0.5, noise=0.5), 1.0
    lengths = []
    x, y = blobs(40, torch.float64)
    x, bounds = x[:, None], Bounds(low=blob_bounds.low[None].double(), high=blob_bounds.high[None].double())
    recipe = Recipe(
        objective=objective,
        data=(jitter,),
        privacy=SETTINGS.model_copy(update={"augmentations": copies, "max_grad_norm": bound}),
        training=Training(epochs=1, batch_size=20, optimizer="sgd", learning_rate=0.1, momentum=0.0),
    )
    private = build_trainer(network(torch.float64), recipe, x, y, bounds=bounds, seed=9)
    plain = network(torch.float64)
    for step in range(2):
        batch = np.flatnonzero(seeds.stream(9, "sample", step).random(40) < 0.5)
        parameters = list(plain.parameters())
        total = [2 * n for n in noise(step, [p.detach() for p in parameters], given_noise)]
        for place, number in enumerate(batch):
            losses = []
            for copy_ in range(copies):
                rows = np.array([copy_ * len(batch) + place])
                own = Draw(seeds.stream(9, "augment", 0, step), copies * len(batch), rows)
                moved = bounds.confine(jitter.augment(x[[number]], own), x[[number]])
                if objective != "standard":
                    own = Draw(seeds.stream(9, "craft", step), copies * len(batch), rows)
                    attack = AdversarialPGD(epsilon=0.3, steps=3)
                    moved = attack.craft(plain, Batch(x=moved, y=y[[number]], bounds=bounds, draw=own))
                losses.append(F.cross_entropy(plain(moved), y[[number]]))
            gradient = torch.autograd.grad(torch.stack(losses).mean(), parameters)
            lengths.append(float(torch.cat([g.flatten() for g in gradient]).norm()))
            factor = min(1.0, bound / lengths[-1])
            total = [t + factor * g for t, g in zip(total, gradient, strict=True)]
        with torch.no_grad():
            for parameter, gradient in zip(parameters, total, strict=True):
                parameter.sub_(0.1 * gradient / 20)
    private.run()
    assert min(lengths) < bound < max(lengths), "none is clipped, or all are: this would not see how they are averaged"
    for ours, theirs in zip(private.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_however_many_copies_one_record_moves_the_sum_by_no_more_than_the_bound(blobs: Blobs) -> None:
    x, y = blobs(2, torch.float64)
    model = nn.Linear(5, 2).double()
    private = PrivateUpdate(model, SETTINGS, records=RECORDS, batch_size=BATCH, steps=STEPS, seed=0)
    losses = 100 * F.cross_entropy(model(torch.cat([x[:1]] * 8)), y[:1].repeat(8), reduction="none")
    total = private.gradients(losses.unflatten(0, (8, 1)).mean(0))
    assert float(torch.cat([g.flatten() for g in total]).norm()) == pytest.approx(0.5, rel=1e-9)


ATTACKS: list[dict[str, object]] = [
    {"name": "pgd", "epsilon": 0.3, "steps": 3},
    {"name": "pgd", "epsilon": 0.3, "steps": 3, "norm": "l2"},
    {"name": "fast", "epsilon": 0.3, "watch": None},
    {"name": "trades", "epsilon": 0.3, "steps": 3},
    {"name": "gaussian_noise", "sigma": 0.3},
]


@pytest.mark.parametrize("objective", ATTACKS)
def test_an_attack_while_training_spends_nothing(
    network: Network, blobs: Blobs, blob_bounds: Bounds, objective: dict[str, object]
) -> None:
    plain, attacked = (trainer(network, blobs, blob_bounds, one) for one in ("standard", objective))
    for one in (plain, attacked):
        one.run()
    assert plain.mechanism is not None
    assert attacked.mechanism == plain.mechanism
    assert rdp_epsilon(attacked.mechanism) == rdp_epsilon(plain.mechanism)


@pytest.mark.parametrize("objective", ATTACKS)
def test_the_example_of_a_record_comes_from_that_record_and_the_weights_alone(
    network: Network, blobs: Blobs, blob_bounds: Bounds, objective: dict[str, object]
) -> None:
    """Whatever the others of its batch are, and whether there are any."""
    x, y = blobs(12, torch.float64)
    model, method = network(torch.float64), Recipe(objective=objective).objective

    def crafted(x: Tensor, y: Tensor, rows: np.ndarray) -> Tensor:
        draw = Draw(seeds.stream(5, "craft"), 12, rows)
        return method.craft(model, Batch(x=x, y=y, bounds=blob_bounds, draw=draw))

    together = crafted(x, y, np.arange(12))
    others = torch.arange(12) != 3
    without = crafted(x[others], y[others], np.flatnonzero(others.numpy()))
    torch.testing.assert_close(without, together[others], rtol=0, atol=1e-12)
    changed_x, changed_y = x.clone(), y.clone()
    changed_x[3], changed_y[3] = 5 - changed_x[3], 1 - changed_y[3]
    changed = crafted(changed_x, changed_y, np.arange(12))
    torch.testing.assert_close(changed[others], together[others], rtol=0, atol=1e-12)
    assert not torch.equal(changed[3], together[3])


@pytest.mark.parametrize("objective", ATTACKS)
def test_examples_are_crafted_outside_the_per_record_machinery(
    network: Network, blobs: Blobs, blob_bounds: Bounds, objective: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    private = trainer(network, blobs, blob_bounds, objective)
    machinery = private._update._gradients  # type: ignore[attr-defined]
    listening: list[bool] = []
    kind = type(Recipe(objective=objective).objective)
    craft = kind.craft

    def watched(self: AdversarialPGD, model: nn.Module, batch: Batch) -> Tensor:
        listening.append(machinery.hooks_enabled)
        return craft(self, model, batch)

    monkeypatch.setattr(kind, "craft", watched)
    private.run()
    assert listening == [False, False]
    assert machinery.hooks_enabled


def test_training_hooks_after_an_epoch_are_outside_the_per_record_machinery(
    network: Network, blobs: Blobs, blob_bounds: Bounds
) -> None:
    private = trainer(network, blobs, blob_bounds, ATTACKS[0])
    machinery = private._update._gradients  # type: ignore[attr-defined]
    listening: list[bool] = []

    class Asking(Hook):
        name = "asking"

        def after_epoch(self, trainer: Trainer, *, last: bool) -> None:
            listening.append(machinery.hooks_enabled)

    private.hooks.append(Asking())
    private.run()
    assert listening
    assert not any(listening)
    assert machinery.hooks_enabled


def test_closing_takes_every_hook_off(network: Network) -> None:
    model = network()
    private = PrivateUpdate(model, SETTINGS, records=RECORDS, batch_size=BATCH, steps=STEPS, seed=0)
    private.close()
    assert not any(layer._forward_hooks or layer._backward_hooks for layer in model.modules())
