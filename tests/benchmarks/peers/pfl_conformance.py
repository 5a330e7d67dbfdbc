"""Answers of pfl's own code to rows of the conformance table, printed as JSON; run by Python of pfl's environment."""

import json

import numpy as np
import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.algorithm.scaffold import SCAFFOLD, SCAFFOLDParams
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.data.user_state import InMemoryUserStateStorage
from pfl.hyperparam import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel


class Quadratic(torch.nn.Module):
    """Loss curvature/2 · (w - target)², with the two numbers as the only record."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(1))

    def loss(self, record, label, is_eval=False):
        self.train(not is_eval)
        target, curvature = record[0, 0], record[0, 1]
        return (curvature / 2 * (self.w - target) ** 2).sum()

    def metrics(self, record, label, is_eval=True):
        return {}


class DivergedError(Exception):
    """A weight is beyond a million."""


class Watch(TrainingProcessCallback):
    """Ends a run that diverges."""

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        if abs(float(model.pytorch_model.w)) >= 1e6:
            raise DivergedError(f"diverges in round {central_iteration + 1}")
        return False, Metrics()


def trained(users, rounds, rate, epochs, scaffold=False):
    """The weight after these rounds with all users; each is a list of records (target, curvature)."""
    network = Quadratic()
    model = PyTorchModel(
        network,
        local_optimizer_create=torch.optim.SGD,
        central_optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
    )
    names = list(users)
    data = {name: np.array(records, dtype=np.float32) for name, records in users.items()}
    sampler = get_user_sampler("minimize_reuse", names)

    def made(name):
        return Dataset(raw_data=[data[name], np.zeros(len(data[name]), dtype=np.float32)], user_id=name)

    backend = SimulatedBackend(
        training_data=FederatedDataset(made, sampler),
        val_data=None,
        postprocessors=[] if scaffold else [WeightByDatapoints()],
    )
    general = {
        "central_num_iterations": rounds,
        "evaluation_frequency": rounds + 1,
        "train_cohort_size": len(users),
        "val_cohort_size": 0,
    }
    if scaffold:
        algorithm = SCAFFOLD()
        params = SCAFFOLDParams(
            **general,
            population=len(users),
            use_gradient_as_control_variate=False,
            user_state_storage=InMemoryUserStateStorage(),
        )
    else:
        algorithm, params = FederatedAveraging(), NNAlgorithmParams(**general)
    training = NNTrainHyperParams(local_num_epochs=epochs, local_learning_rate=rate, local_batch_size=None)
    try:
        algorithm.run(
            algorithm_params=params,
            backend=backend,
            model=model,
            model_train_params=training,
            model_eval_params=NNEvalHyperParams(local_batch_size=None),
            callbacks=[Watch()],
        )
    except DivergedError as end:
        return str(end)
    return float(network.w)


if __name__ == "__main__":
    quadratics = {"0": [(0.0, 1.0)], "1": [(1.0, 4.0)]}
    # One step at the rate 1 and curvature 1 ends at the client's target, so updates are 0 and 1.
    sizes = {"0": [(0.0, 1.0)] * 10, "1": [(1.0, 1.0)] * 1000}
    spoilt = {str(place): [(1.0, 1.0)] for place in range(4)} | {"4": [(float("nan"), 1.0)]}
    answers = {
        "scaffold_sign": trained(quadratics, 400, 0.1, 10, scaffold=True),
        # By default pfl weighs all users alike; here it is told to weigh by records.
        "weights": trained(sizes, 1, 1.0, 1),
        "fedavg_NaN": trained(spoilt, 1, 1.0, 1),
    }
    print(json.dumps(answers))
