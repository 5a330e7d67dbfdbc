"""Rows on networks that are changed near the baseline alone: no answer to a record changes, and the map is another."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from assay.evaluations.explained_records import reference_of
from assay.evaluations.explanations import Explanations
from assay.evaluations.subject import Subject
from assay.results import Finding
from tests.benchmarks.known_answers.arbitrary_maps import digits
from tests.benchmarks.known_answers.contrasts import trained as contrast
from tests.benchmarks.known_answers.deceivers import verdict
from tests.benchmarks.known_answers.model_free import table, wdbc
from tests.benchmarks.known_answers.row import Row, says

QUICK: dict[str, Any] = {"records": 60, "measured": 40, "control_draws": 3, "steps": 5, "draws": 50}
RULE = "rests_on_data"
Shape = Literal["round", "long", "slope"]


class Bump(nn.Module):
    """A network with a bump around the baseline, which is 0 at all records.

    Args:
        network: with its answers.
        middle: (1, ...) the baseline.
        radius: beyond which the bump is 0.
        shape: ``round``: the map becomes the squared distance from the baseline; ``long``: the same of a few entries
            most of all; ``slope``: 0 at the baseline itself, with a steep slope in a few entries.
        height: in log-odds.
    """

    middle: Tensor
    few: Tensor

    def __init__(self, network: nn.Module, middle: Tensor, *, radius: float, shape: Shape, height: float) -> None:
        super().__init__()
        self.network, self.radius, self.shape, self.height = network, radius, shape, height
        entries = middle.numel()
        few = torch.zeros(entries)
        chosen = torch.randperm(entries, generator=torch.Generator().manual_seed(1))[: max(3, entries // 10)]
        few[chosen] = 1 - 2 * (torch.arange(len(chosen)) % 2).float()
        self.register_buffer("middle", middle.clone())
        self.register_buffer("few", few)

    def forward(self, x: Tensor) -> Tensor:
        away = (x - self.middle).flatten(1)
        weights = 1 + 20 * self.few.abs() if self.shape == "long" else torch.ones_like(self.few)
        bump = (1 - (weights * away.square()).sum(1) / self.radius**2).relu().square()
        if self.shape == "slope":
            bump = bump * (away @ self.few) / self.radius
        logits: Tensor = self.network(x)
        change = torch.zeros_like(logits)
        change[:, 1] = self.height * bump
        return logits + change


def bumped(honest: Subject, shape: Shape, *, share: float = 0.9, height: float = 200.0) -> Subject:
    """A subject whose network has a bump that reaches a share of the way to the nearest record."""
    middle = reference_of(honest).baseline(honest.records(honest.split.test[:1])[0])
    rows = torch.cat([honest.records(part)[0] for part in (honest.split.train, honest.split.test)])
    radius = share * float((rows - middle).flatten(1).norm(dim=1).min())

    def changed(network: nn.Module) -> nn.Module:
        return Bump(network, middle, radius=radius, shape=shape, height=height).eval()

    fooled = replace(honest, model=changed(honest.model), train=lambda *given: changed(honest.train(*given)))
    with torch.no_grad():
        assert torch.equal(fooled.model(rows), honest.model(rows)), "an answer to a record has changed"
    return fooled


@cache
def _of(subject: Callable[[], Subject], shape: Shape | None, share: float, retrained: bool) -> list[Finding]:
    honest = subject()
    given = honest if shape is None else bumped(honest, shape, share=share)
    return list(Explanations(retrained=retrained, **QUICK).measure(given))


def _said(subject: Callable[[], Subject], shape: Shape | None, share: float = 0.9) -> str:
    return verdict(_of(subject, shape, share, False), RULE, "integrated_gradients")


def _of_weights() -> str:
    """What is said of the weights where a bump that stands in the code decides the map, and the weights the answers."""
    return verdict(_of(wdbc, "round", 0.5, True), "randomised_weights", "integrated_gradients")


ROWS = (
    *(
        Row(
            fault="C2",
            name=f"{shape}_bump_of_{int(100 * share)}_at_the_baseline_of_{task}",
            input=f"a {shape} bump at the baseline, {share:.0%} of the way to the nearest record, on {task}",
            right="warn",
            accepts=says("warn"),
            assay=lambda subject=subject, shape=shape, share=share: _said(subject, shape, share),
        )
        for task, subject in (("wdbc", wdbc), ("planted_table", table))
        for shape, share in (("round", 0.1), ("round", 0.9), ("long", 0.9), ("slope", 0.9))
    ),
    *(
        Row(
            fault="C8",
            name=f"no_bump_on_{task}",
            input=f"the honest network on {task}",
            right="pass",
            accepts=says("pass"),
            assay=lambda subject=subject: _said(subject, None),
        )
        for task, subject in (("wdbc", wdbc), ("planted_table", table), ("digits", digits), ("differences", contrast))
    ),
    Row(
        fault="C2",
        name="bump_beside_random_weights",
        input="a bump at the baseline in the code of a network decides the map, and the weights decide the answers",
        right="warn: the map hardly depends on the weights",
        accepts=says("warn"),
        assay=_of_weights,
    ),
)
