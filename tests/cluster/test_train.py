"""What a failed training over workers says to the one who asked for it."""

import pytest
from ray.train import WorkerGroupError

from assay.cluster.train import _last_state
from assay.errors import DataError


class Failing:
    """A ``TorchTrainer`` whose workers have failed."""

    def __init__(self, *failures: Exception) -> None:
        self._failures = dict(enumerate(failures))

    def fit(self) -> None:
        raise WorkerGroupError("the workers failed", self._failures)


def test_a_users_error_comes_out_from_among_those_of_the_workers_that_it_stopped() -> None:
    with pytest.raises(DataError, match="corrupt"):
        _last_state(Failing(RuntimeError("connection closed by peer"), DataError("image 3 is corrupt")))


def test_any_other_failure_stays_what_it_is() -> None:
    with pytest.raises(WorkerGroupError, match="the workers failed"):
        _last_state(Failing(RuntimeError("a fault of ours")))
