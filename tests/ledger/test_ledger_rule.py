"""Whatever an adaptive caller asks of a ledger, all that began under its budget never composes beyond it."""

from pathlib import Path

import numpy as np
import pytest
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

from assay.errors import BudgetError, LedgerError
from assay.ledger import Ledger
from assay.ledger.account import ReleaseRequest
from assay.ledger.database import Collection
from assay.ledger.experiments import UNFINISHED, Experiment, Processing
from assay.privacy.accounting import Mechanism, pld_epsilon

DATA = Collection(digest="89abcdef01234567" * 4, name="made up", records=60)
ROLES = np.repeat([1, 4], 30).astype(np.uint8)
ORDERS = [1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128]
NOISE = (1.2, 2.0, 4.0)
"""Noise multipliers of the mechanisms of the model test, at rate 0.25 over 20 steps: ε of about 6.6, 3.1 and 1.3."""


def mechanism(noise: float) -> Mechanism:
    return Mechanism(noise_multiplier=noise, sample_rate=0.25, steps=20, delta=1e-5)


def request(trial: str, noise: float, artefact: str = "weights") -> ReleaseRequest:
    return ReleaseRequest(
        training=trial, label=f"trial {trial}", charge={"central": (mechanism(noise),)}, artefact=artefact
    )


def leave(ledger: Ledger, *requests: ReleaseRequest, **settings: object) -> None:
    ledger.release(list(requests), how="handed over", processing=Processing(), **settings)  # type: ignore[arg-type]


def experiment(trial: str, error: str = "") -> Experiment:
    return Experiment(training=trial, results="/r", label=f"trial {trial}", noise="entropy", error=error)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path, DATA)


def composed(noises: list[float]) -> float:
    """ε of everything together by RDP, computed from Opacus alone."""
    if not noises:
        return 0.0
    each = {noise: np.array(compute_rdp(q=0.25, noise_multiplier=noise, steps=20, orders=ORDERS)) for noise in NOISE}
    return float(get_privacy_spent(orders=ORDERS, rdp=sum(each[noise] for noise in noises), delta=1e-5)[0])


def test_a_dropped_part_of_a_plan_gives_nothing_back_to_what_comes_after(ledger: Ledger) -> None:
    first, second, third = request("a", 2.0), request("b", 1.2), request("c", 2.0)
    leave(ledger, first, epsilon=7.9, plan=[first, second])
    held = ledger.account().held
    for _ in range(2):
        for ask in (lambda: leave(ledger, third), lambda: ledger.reserve(third)):
            with pytest.raises(BudgetError) as caught:
                ask()
            assert (caught.value.setting, caught.value.allowed) == ("--budget", 7.9)
            assert caught.value.given > composed([2.0, 1.2])
        assert ledger.account().held == held
        ledger.drop(["a", "b", "c"])


def test_what_was_dropped_from_a_plan_by_an_earlier_version_counts(ledger: Ledger) -> None:
    first, second = request("a", 2.0), request("b", 1.2)
    leave(ledger, first, epsilon=7.9, plan=[first, second])
    with ledger._file.writing() as db:
        db.execute("UPDATE charges SET state = 'dropped' WHERE trial = 'b'")
    with pytest.raises(BudgetError):
        leave(ledger, request("c", 2.0))


@pytest.mark.parametrize("ending", ["failed", "finished", "erased", "cut short", "forgotten"])
def test_what_began_under_a_budget_counts_whatever_became_of_it(ledger: Ledger, ending: str) -> None:
    ledger.set_budget(8.0)
    ledger.reserve(request("a", 1.2, artefact=""))
    ledger.begin(experiment("a", UNFINISHED), ROLES, request("a", 1.2).charge)
    held = ledger.account().held
    if ending in ("failed", "finished", "erased"):
        died = "died" if ending == "failed" else ""
        ledger.end(experiment("a", died), ROLES, artefact="" if died else "weights")
    if ending == "erased":
        ledger.erased(ledger.experiments(), asked="a patient")
    assert ledger.drop(["a"]) == []
    assert ledger.account().held == held > 6
    with pytest.raises(BudgetError):
        ledger.begin(experiment("b", UNFINISHED), ROLES, request("b", 1.2).charge)
    if ending == "cut short":  # and goes on: the same training, which holds no more
        ledger.reserve(request("a", 1.2, artefact=""))
        ledger.begin(experiment("a", UNFINISHED), ROLES, request("a", 1.2).charge)
        assert ledger.account().held == held


def test_only_what_never_began_is_given_back(ledger: Ledger) -> None:
    ledger.set_budget(8.0)
    ledger.reserve(request("a", 1.2, artefact=""))
    with pytest.raises(BudgetError):
        ledger.reserve(request("b", 1.2, artefact=""))
    assert ledger.drop(["a"]) == ["trial a"]
    ledger.begin(experiment("b", UNFINISHED), ROLES, request("b", 1.2).charge)


class Caller:
    """Asks a ledger anything, in an order that may depend on every answer, and keeps its own account of what began."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self.ledger, self.draw = ledger, np.random.default_rng(seed)
        self.budget = 0.0
        self.noise_of: dict[str, float] = {}
        self.began: dict[tuple[str, str], float] = {}
        """Noise of everything that began under a budget, by trial and training, and of all that left."""
        self.open: dict[str, str] = {}
        self.named: dict[tuple[str, str], str] = {}
        """The same name of a training by its trial and the name that the ledger gives it while it has no weights."""
        self.plans: list[set[str]] = []
        self.refused = 0

    def step(self) -> None:
        asked = self.draw.choice(["reserve", "begin", "end", "drop", "release", "erase", "budget", "plan", "best"])
        trial = str(self.draw.choice(list("abcdefgh")))
        noise = self.noise_of.setdefault(trial, float(self.draw.choice(NOISE)))
        try:
            getattr(self, f"ask_{asked}")(trial, noise)
        except LedgerError:
            self.refused += 1

    def ask_reserve(self, trial: str, noise: float) -> None:
        self.ledger.reserve(request(trial, noise, artefact=""))

    def ask_begin(self, trial: str, noise: float) -> None:
        self.ledger.begin(experiment(trial, UNFINISHED), ROLES, request(trial, noise).charge)
        name = self.open.setdefault(trial, f"{len(self.began)} {self.draw.integers(10**9)}")
        *_, unnamed = (one.artefact for one in self.ledger.trainings("/r") if one.training == trial)
        self.named[trial, unnamed] = name
        if self.budget:
            self.began[trial, name] = noise

    def ask_end(self, trial: str, noise: float) -> None:
        if trial in self.open:
            name = self.open.pop(trial)
            died = self.draw.random() < 0.4
            self.ledger.end(experiment(trial, "died" if died else ""), ROLES, artefact="" if died else name)

    def ask_drop(self, trial: str, noise: float) -> None:
        self.ledger.drop([trial, "h"])

    def ask_erase(self, trial: str, noise: float) -> None:
        self.ledger.erased([one for one in self.ledger.experiments() if one.training == trial], asked="a patient")

    def ask_budget(self, trial: str, noise: float) -> None:
        wanted = float(self.draw.choice([4.0, 8.0, 14.0]))
        self.ledger.set_budget(wanted, reason="the board agreed")
        self.budget = wanted

    def ask_release(self, trial: str, noise: float) -> None:
        ended = [one for one in self.ledger.trainings("/r") if one.training == trial and " in /r" not in one.artefact]
        if ended:
            chosen = ended[int(self.draw.integers(len(ended)))]
            leave(self.ledger, request(trial, noise, artefact=chosen.artefact))
            self.began[trial, chosen.artefact] = noise

    def ask_best(self, trial: str, noise: float) -> None:
        others = [
            request(one.training, self.noise_of[one.training], one.artefact) for one in self.ledger.trainings("/r")
        ]
        leave(self.ledger, request(trial, noise, artefact="best"), looked_at=others)
        self.began[trial, "best"] = noise
        for one in others:
            self.began[one.training, self.named.get((one.training, one.artefact), one.artefact)] = self.noise_of[
                one.training
            ]

    def ask_plan(self, trial: str, noise: float) -> None:
        members = [str(one) for one in self.draw.choice(list("abcdefgh"), size=2, replace=False)]
        plan = [request(one, self.noise_of.setdefault(one, 2.0), artefact=f"plan {one}") for one in members]
        leave(self.ledger, *plan[: int(self.draw.integers(0, 3))], plan=plan)
        for one in plan:
            self.began[one.training, one.artefact] = self.noise_of[one.training]
        self.plans.append({one.artefact for one in plan})


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 60))])
def test_nothing_that_began_ever_composes_beyond_the_budget(ledger: Ledger, seed: int) -> None:
    caller = Caller(ledger, seed)
    caller.ask_budget("", 0.0)
    for steps in range(200):
        # On and on until the budget has refused something, or it would not have been tried.
        if steps >= 25 and caller.refused:
            break
        caller.step()
        noises = list(caller.began.values())
        alone = len(caller.plans) == 1 and {name for _, name in caller.began} == caller.plans[0]
        total = pld_epsilon(*map(mechanism, sorted(noises))) if alone else composed(noises)
        # At a coarser grid of orders than the ledger's: a sum below the budget there is one here up to this.
        assert total <= caller.budget * 1.05, (caller.began, caller.budget)
    assert caller.began and caller.refused
    ledger.verify()
