"""The log of a training: who spent what, and what follows when stages train one after the other."""

from assay.privacy.accounting import Mechanism
from assay.training.log import TrainingLog

SPENT = {"noise_multiplier": 1.5, "sample_rate": 0.1, "steps": 7, "delta": 1e-5}


def log(**settings: object) -> TrainingLog:
    return TrainingLog(**{"seconds": 1.0, "worker_seconds": 2.0, "workers": 2, **settings})  # type: ignore[arg-type]


def test_the_log_names_who_spent_what() -> None:
    assert log(mechanisms={"central": SPENT}).mechanism("central") == Mechanism(**SPENT)  # type: ignore[arg-type]


def test_times_losses_notes_and_steps_of_two_stages_add_up() -> None:
    first = log(losses=[0.5], notes=["one"], mechanisms={"central": SPENT}, validation=[0.1], treatment={"kept": 3})
    second = log(losses=[0.4], notes=["two"], mechanisms={"central": SPENT}, validation=[0.9], treatment={"kept": 4})
    both = first.then(second)
    assert (both.seconds, both.worker_seconds, both.workers) == (2.0, 4.0, 2)
    assert (both.losses, both.notes) == ([0.5, 0.4], ["one", "two"])
    assert both.mechanism("central").steps == 14
    assert (both.validation, both.treatment) == ([0.9], {"kept": 4}), "of the network that is kept"


def test_speeds_of_two_stages_add_up_for_each_number_of_workers() -> None:
    one = {"steps": 1, "records": 10, "seconds": 0.5}
    both = log(speeds={"1": one}).then(log(speeds={"1": one, "2": one}))
    assert both.speeds == {"1": {"steps": 2, "records": 20, "seconds": 1.0}, "2": one}
