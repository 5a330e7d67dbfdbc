"""Answers of Quantus and LIME to rows of the table of known answers, as JSON; run by Python of their environment.

Each function is a question of the row of its name in ``tests/benchmarks/known_answers``. An error is its own answer.
"""

import io
import itertools
import json
import sys
import warnings
from contextlib import redirect_stdout

import numpy as np
import quantus
import torch
from lime.lime_tabular import LimeTabularExplainer
from sklearn.datasets import load_breast_cancer
from torch import nn

QUIET = {"disable_warnings": True, "display_progressbar": False}


class Mean(nn.Module):
    """Logits (0, mean of the entries); keeps what it was asked about."""

    def __init__(self, weight=None):
        super().__init__()
        self.weight, self.asked = weight, []
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        self.asked.append(x.detach().clone())
        flat = x.flatten(1)
        score = self.scale * (flat.mean(1) if self.weight is None else (flat * self.weight.to(flat)).sum(1))
        return torch.stack([0 * score, score], 1)


def asked(metric, a, s=None, x=None, model=None, **call):
    """Scores of maps a (n, 1, h, w) by a metric."""
    a = np.asarray(a, np.float32)
    x = np.ones_like(a) if x is None else x
    given = {"device": "cpu", "channel_first": True, **call}
    return metric(
        model=(model or Mean()).eval(),
        x_batch=x,
        y_batch=np.ones(len(a), int),
        a_batch=a,
        s_batch=None if s is None else np.asarray(s, bool),
        **given,
    )


def square(*rows):
    """Maps of 2 × 2."""
    return np.array(rows, np.float32).reshape(-1, 1, 2, 2)


def said(scores):
    score = float(np.asarray(scores, float)[0])
    return "left out: 1" if np.isnan(score) else f"{score:g}"


MAP = (3, 1, 0, 0)


def empty_truth():
    return said(asked(quantus.PointingGame(**QUIET), square(MAP), square((0, 0, 0, 0))))


def empty_map():
    # Beside another map: a batch of empty maps alone is refused.
    truth = square((1, 0, 0, 0), (1, 0, 0, 0))
    return said(asked(quantus.PointingGame(**QUIET), square((0, 0, 0, 0), MAP), truth))


def weighted_score():
    return float(asked(quantus.PointingGame(weighted=True, **QUIET), square((3, 0, 0, 0)), square((1, 0, 0, 0)))[0])


def arguments():
    a = np.array([[3.0, 1.0, 0.0, 0.0]], np.float64).reshape(1, 1, 2, 2)
    before = a.tobytes()
    metric = quantus.Sparseness(abs=False, normalise=False, **QUIET)
    metric(
        model=Mean(),
        x_batch=np.ones_like(a, np.float32),
        y_batch=np.ones(1, int),
        a_batch=a,
        device="cpu",
        channel_first=True,
    )
    return "as before" if a.tobytes() == before else "changed"


def beside_a_ramp(level, shape):
    """A constant map, and a rising one: a batch of constant maps alone is refused."""
    return np.stack([np.full(shape, level), np.arange(np.prod(shape)).reshape(shape)]).astype(np.float32)


LEVEL = 0.7
TEN = beside_a_ramp(LEVEL, (1, 1, 10))
THREE = np.stack([(np.arange(10) < 3).reshape(1, 1, 10)] * 2)


def ties_of_ranks():
    return float(asked(quantus.RelevanceRankAccuracy(**QUIET), TEN, THREE)[0])


def ties_of_points():
    return float(asked(quantus.PointingGame(**QUIET), TEN, THREE)[0])


def mass(share):
    truth = np.stack([(np.arange(100) < share).reshape(1, 10, 10)] * 2)
    return float(asked(quantus.RelevanceMassAccuracy(**QUIET), beside_a_ramp(LEVEL, (1, 10, 10)), truth)[0])


def uniform_map():
    return mass(35)


def uniform_maps_of_two_areas():
    return mass(80) / mass(5)


def dropped_cases():
    maps, truth = square((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 0), (1, 0, 0, 0)), square(*[(1, 0, 0, 0)] * 4)
    scores = np.asarray(asked(quantus.PointingGame(**QUIET), maps, truth), float)
    known = scores[~np.isnan(scores)]
    return [float(known.mean()), len(known), int(np.isnan(scores).sum())]


def flipped(x, a, **settings):
    """What the model sees while pixels are flipped."""
    model = Mean()
    asked(quantus.PixelFlipping(**settings, **QUIET), a, x=x, model=model)
    return [one[0] for one in model.asked]


FOUR, ORDER = square((4, 0, 0, 0)), square((4, 3, 2, 1))


def mean_of_the_intact_record():
    return flipped(FOUR, ORDER, perturb_baseline="mean")[-1].flatten().tolist()


def intact_start():
    return float((flipped(FOUR + 1, ORDER, perturb_baseline="black")[0].numpy() != (FOUR + 1)[0]).sum())


def channels_of_a_pixel():
    x = np.random.default_rng(0).random((1, 3, 2, 2)).astype(np.float32) + 1
    first = flipped(x, ORDER, perturb_baseline="uniform")[0]
    return float((first.numpy() != x[0]).sum())


class Constant(nn.Module):
    def forward(self, x):
        return torch.stack([0 * x.flatten(1).sum(1), 1 + 0 * x.flatten(1).sum(1)], 1)


def scale_of_the_area():
    areas = []
    for side in ((28, 28), (4, 7)):
        a = np.arange(np.prod(side), dtype=np.float32).reshape(1, 1, *side)
        metric = quantus.PixelFlipping(**QUIET)
        asked(metric, a, x=a, model=Constant())
        areas.append(metric.get_auc_score)
    return float(areas[0] / areas[1])


def no_raster_order():
    weight = torch.tensor([4.0, 0, 0, 0])
    x = np.ones((2, 1, 2, 2), np.float32)
    curve = asked(
        quantus.PixelFlipping(perturb_baseline="black", perturb_func=to_zero, **QUIET),
        beside_a_ramp(LEVEL, (1, 2, 2)),
        x=x,
        model=Mean(weight),
        softmax=False,
    )
    # The curve has no intact start: the value is there in 3, 2, 1, 0 of 4 steps of a random order.
    return float(np.mean(curve[0]) / 1.5)


def to_zero(arr, indices, **_):
    out = np.array(arr)
    for row, of_record in enumerate(np.atleast_2d(indices)):
        out[row, of_record] = 0
    return out


class Surviving(nn.Module):
    """Class 1 where a corner is lit, whatever else; otherwise only where the bright pixel is intact."""

    def forward(self, x):
        score = torch.where(x[:, 0, 3, 3] > 0.5, 1.0, 2 * (x[:, 0, 0, 0] > 0.9).float() - 1)
        return torch.stack([0 * score, score], 1)


def all_batches_count():
    x = np.full((200, 1, 4, 4), 0.1, np.float32)
    x[:, 0, 0, 0] = 1.0
    x[:64, 0, 3, 3] = 1.0
    a = np.tile(np.arange(16, 0, -1, dtype=np.float32).reshape(1, 1, 4, 4), (200, 1, 1, 1))
    found = asked(quantus.ROAD(percentages=[50], noise=0.0, **QUIET), a, x=x, model=Surviving())
    return float(next(iter(found.values())))


def completeness_can_be_passed():
    weight = torch.tensor([1.0, -2.0, 1 / 3, 0.5])
    x = square((0.1, 0.7, -1.3, 2.0))
    a = x * weight.numpy().reshape(1, 1, 2, 2)
    metric = quantus.Completeness(perturb_func=to_zero, **QUIET)
    return "accepted" if bool(asked(metric, a, x=x, model=Mean(weight))[0]) else "refused"


WEIGHTS = torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0, 0.0, 0.7, 0.2, -0.4, 1.1, 0.3, -0.9, 0.6, 0.8, -1.3, 0.1])


def infidelity(slopes, factor=1.0):
    x = np.random.default_rng(0).normal(size=(6, 1, 4, 4)).astype(np.float32)
    values = factor * np.broadcast_to(WEIGHTS.numpy().reshape(1, 1, 4, 4), x.shape) * (1 if slopes else x)
    metric = quantus.Infidelity(perturb_patch_sizes=[2], perturb_baseline="uniform", **QUIET)
    return float(np.max(asked(metric, values, x=x, model=Mean(WEIGHTS))))


def infidelity_of_slopes():
    return infidelity(True)


def infidelity_of_contributions():
    return infidelity(False)


def infidelity_of_another_scale():
    return infidelity(True, 100.0)


def permutation_with(correlation):
    wanted = round((1 - correlation) * 20)
    return next(
        [float(place + 1) for place in order]
        for order in itertools.permutations(range(5))
        if sum((place - rank) ** 2 for rank, place in enumerate(order)) == wanted
    )


def cascade_without_the_trained_network():
    model = nn.Sequential(nn.Flatten(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    rising = np.arange(1.0, 6.0).reshape(1, 1, 1, 5)
    maps = iter([np.array(permutation_with(one)).reshape(1, 1, 1, 5) for one in (0.2, 0.1)])
    trained = [one.detach().clone() for one in model.parameters()]

    def explain(model, inputs, targets, **_):
        weights = list(model.parameters())
        same = all(torch.equal(one, other) for one, other in zip(weights, trained, strict=True))
        return rising if same else next(maps)

    metric = quantus.MPRT(
        similarity_func=quantus.similarity_func.correlation_spearman,
        return_average_correlation=True,
        normalise=False,
        **QUIET,
    )
    found = metric(
        model=model.eval(),
        x_batch=np.ones((1, 1, 1, 5), np.float32),
        y_batch=np.ones(1, int),
        a_batch=None,
        explain_func=explain,
        device="cpu",
        channel_first=True,
    )
    return float(np.asarray(found).ravel()[0])


def sensitivity(unit=1.0):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 2))

    class InUnits(nn.Module):
        def forward(self, x):
            return net(x / unit)

    def explain(model, inputs, targets, **_):
        x = torch.as_tensor(inputs, dtype=torch.float32).requires_grad_()
        (gradient,) = torch.autograd.grad(InUnits()(x)[:, 1].sum(), x)
        return (gradient * x).detach().numpy()

    np.random.seed(0)
    x = (unit * np.random.default_rng(0).normal(size=(6, 1, 2, 2))).astype(np.float32)
    metric = quantus.MaxSensitivity(nr_samples=10, **QUIET)
    found = metric(
        model=InUnits().eval(),
        x_batch=x,
        y_batch=np.ones(6, int),
        a_batch=None,
        explain_func=explain,
        device="cpu",
        channel_first=True,
    )
    return float(np.mean(found))


def sensitivity_in_other_units():
    return sensitivity(1000.0) / sensitivity()


def gini():
    metric = quantus.Sparseness(**QUIET)
    return [float(one) for one in asked(metric, square((1, 1, 1, 1), (1, 0, 0, 0)))]


def batches():
    """Change of Infidelity with its maps normalised, by a neighbour in the batch."""
    rng = np.random.default_rng(0)
    x, a = (rng.normal(size=(2, 1, 4, 4)).astype(np.float32) for _ in range(2))
    a[1] *= 1e6
    metric = lambda: quantus.Infidelity(
        perturb_patch_sizes=[2], perturb_baseline="black", normalise=True, **QUIET
    )  # fmt: skip
    both, alone = (float(asked(metric(), a[:n], x=x[:n], model=Mean(WEIGHTS))[0]) for n in (2, 1))
    return abs(both - alone)


OF_QUANTUS = (
    empty_truth, empty_map, weighted_score, arguments, ties_of_ranks, ties_of_points, uniform_map,
    uniform_maps_of_two_areas, dropped_cases, mean_of_the_intact_record, intact_start, channels_of_a_pixel,
    scale_of_the_area, no_raster_order, all_batches_count, completeness_can_be_passed, infidelity_of_slopes,
    infidelity_of_contributions, infidelity_of_another_scale, cascade_without_the_trained_network,
    sensitivity_in_other_units, gini, batches,
)  # fmt: skip


def lime_of(x, weights, background, seed=0, shift=0.0):
    """Local slopes by LIME, as a regression of the logit of class 1, made and called anew."""
    made = LimeTabularExplainer(background, mode="regression", random_state=seed)
    return made, lambda: dict(
        made.explain_instance(x, lambda rows: rows @ weights + shift * rows[:, -1]).as_map()[1]
    )  # fmt: skip


def thirty_features():
    data = load_breast_cancer().data
    data = (data - data.mean(0)) / data.std(0)
    weights = np.linspace(-1, 1, 30)
    background, x = data[10:60], data[0]
    _, explain = lime_of(x, weights, background)
    found = explain()
    values = np.array([found.get(place, 0.0) for place in range(30)])
    right = weights * (x - background.mean(0))
    return int((np.abs(values - right) > 0.01 * np.abs(right).max()).sum())


def twice_lime():
    background = np.random.default_rng(0).normal(size=(50, 6))
    _, explain = lime_of(background[0], np.arange(6.0), background)
    return "equal" if explain() == explain() else "different"


def global_generators_lime():
    background = np.random.default_rng(0).normal(size=(50, 6))
    before = np.random.get_state()[1].tolist()
    _, explain = lime_of(background[0], np.arange(6.0), background)
    explain()
    return "as before" if before == np.random.get_state()[1].tolist() else "changed"


def shift_lime():
    """Greatest change of a coefficient by what is added to both logits, relative."""
    background = np.random.default_rng(0).normal(size=(50, 3))
    found = []
    for shift in (0.0, 5.0):
        _, explain = lime_of(np.ones(3), np.array([2.0, -1.0, 0.0]), background, shift=shift)
        slopes = explain()
        found.append(np.array([slopes.get(place, 0.0) for place in range(3)]))
    return float(np.abs(found[0] - found[1]).max() / np.abs(found[0]).max())


OF_LIME = (thirty_features, twice_lime, global_generators_lime, shift_lime)


def answer(ask):
    try:
        with redirect_stdout(io.StringIO()):
            return ask()
    except Exception as error:
        if "-v" in sys.argv:
            raise
        return type(error).__name__


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    of_peers = {"quantus": OF_QUANTUS, "lime": OF_LIME}
    print(
        json.dumps({peer: {ask.__name__: answer(ask) for ask in asks} for peer, asks in of_peers.items()})
    )  # fmt: skip
