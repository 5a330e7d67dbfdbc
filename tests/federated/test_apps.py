"""Flower apps as they are published run on an executor, and what is wrong with one is told before anything runs."""

import random
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.serverapp.strategy import FedAvg, Strategy

from assay.errors import TooFewClientsError, UserError
from assay.executors import LocalExecutor
from assay.federated.app_files import FlowerApp, fused_config, load_client_app, read_app
from assay.federated.apps import AppRun, run_app
from assay.federated.grid import Exchange
from tests.federated.flower_example import FLOWER_APP, quickstart
from tests.mistakes import ANYTHING, refused


@pytest.fixture(scope="module")
def app() -> FlowerApp:
    return read_app(FLOWER_APP)


def written(folder: Path, server: str = "", client: str = "", config: str = "", name: str = "made") -> Path:
    """An app of two modules, ``client_app`` and ``server_app``, as many apps call them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(
        f'[project]\nname = "{name}"\n[tool.flwr.app.components]\nserverapp = "server_app:app"\n'
        f'clientapp = "client_app:app"\n[tool.flwr.app.config]\n{config}'
    )
    (folder / "server_app.py").write_text(server or SERVER.format(strategy="FedAvg(fraction_evaluate=0.0)"))
    (folder / "client_app.py").write_text(client or CLIENT.format(step=1))
    return folder


CLIENT = """
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message, context):
    arrays = ArrayRecord({{"w": Array(message.content["arrays"]["w"].numpy() + np.float32({step}))}})
    metrics = MetricRecord({{"num-examples": 1, "loss": 0.5}})
    return Message(RecordDict({{"arrays": arrays, "metrics": metrics}}), reply_to=message)
"""
SERVER = """
import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()

@app.main()
def main(grid, context):
    {strategy}.start(grid, ArrayRecord({{"w": Array(np.zeros(3, np.float32))}}), num_rounds=2)
"""
OLDER_SERVER = """
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.serverapp import ServerApp

seen = []

def parameters(context):
    strategy = FedAvg(min_available_clients={needed}, on_fit_config_fn=lambda number: {{"number": number}},
                      fit_metrics_aggregation_fn=lambda reports: seen.extend(reports) or {{}})
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=2))

app = ServerApp(server_fn=parameters)
"""
OLDER_CLIENT = """
import numpy as np
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp

class Client(NumPyClient):
    def __init__(self, partition):
        self.partition = partition
    def get_parameters(self, config):
        return [np.zeros(3, np.float32)]
    def fit(self, parameters, config):
        return [parameters[0] + 1], 10, {"partition": self.partition, "number": config["number"]}
    def evaluate(self, parameters, config):
        return float(parameters[0].mean()), 10, {}

app = ClientApp(client_fn=lambda context: Client(context.node_config["partition-id"]).to_client())
"""


def weights(run: AppRun) -> dict[str, np.ndarray]:
    return {key: array.numpy() for key, array in run.results[-1].arrays.items()}


def ran(app: FlowerApp, **settings: Any) -> AppRun:
    return run_app(app, LocalExecutor(), **{"clients": 4, **settings})


def test_an_app_trains_and_evaluates_and_learns(app: FlowerApp) -> None:
    seen: list[Exchange] = []
    run = ran(app, run_config={"num-server-rounds": 4}, told=seen.append)
    assert [(e.kind, e.messages, len(e.failures)) for e in seen] == [("train", 2, 0), ("evaluate", 2, 0)] * 4
    (result,) = run.results
    accuracies = [result.evaluate_metrics_serverapp[number]["accuracy"] for number in range(5)]
    assert accuracies[0] < 0.3
    assert accuracies[-1] > 0.7
    assert run.exchanges == seen


def test_two_runs_in_one_process_draw_the_same_clients_and_batches(app: FlowerApp) -> None:
    first = ran(app, clients=8)
    random.seed(99)
    state = random.getstate()
    second, other = ran(app, clients=8), ran(app, clients=8, seed=1)
    assert random.getstate() == state, "the generators of the caller are as they were"
    assert all((weights(second)[key] == array).all() for key, array in weights(first).items())
    assert any((weights(other)[key] != array).any() for key, array in weights(first).items())


def test_flowers_quickstart_runs_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = quickstart(tmp_path)
    monkeypatch.chdir(tmp_path)  # its server app saves a model there
    run = ran(read_app(folder), run_config={"num-server-rounds": 2})
    assert not any(exchange.failures for exchange in run.exchanges)
    (result,) = run.results
    assert result.evaluate_metrics_serverapp[2]["accuracy"] > result.evaluate_metrics_serverapp[0]["accuracy"] + 0.2
    assert set(result.train_metrics_clientapp[2]) == {"train_loss"}
    assert set(result.evaluate_metrics_clientapp[2]) == {"eval_loss", "eval_acc"}
    saved = torch.load(tmp_path / "final_model.pt", weights_only=True)
    assert all((saved[key].numpy() == array).all() for key, array in weights(run).items())


def test_apps_whose_modules_have_the_same_names_do_not_mix(tmp_path: Path) -> None:
    one = read_app(written(tmp_path / "one"))
    ten = read_app(written(tmp_path / "ten", client=CLIENT.format(step=10)))
    for chosen, step in ((one, 1), (ten, 10), (one, 1)):
        np.testing.assert_array_equal(weights(ran(chosen))["w"], np.full(3, 2 * step, np.float32))
    assert not {one.folder, ten.folder} & set(sys.path)


def test_apps_of_the_older_api_run(tmp_path: Path) -> None:
    folder = written(tmp_path / "older", OLDER_SERVER.format(needed=3), OLDER_CLIENT)
    run = ran(read_app(folder), clients=3)
    (reports,) = [module.seen for name, module in sys.modules.items() if name == "server_app"]
    assert sorted((report["partition"], report["number"]) for _, report in reports) == [
        (partition, number) for partition in range(3) for number in (1, 2)
    ]
    assert not any(exchange.failures for exchange in run.exchanges)


@pytest.mark.parametrize("older", [False, True])
def test_a_strategy_that_wants_more_clients_than_there_are_is_refused_at_once(tmp_path: Path, older: bool) -> None:
    newer = SERVER.format(strategy="FedAvg(min_train_nodes=9)")
    folder = written(
        tmp_path / "wants", OLDER_SERVER.format(needed=9) if older else newer, OLDER_CLIENT if older else ""
    )
    with refused(TooFewClientsError, "clients", 4, 9):
        ran(read_app(folder))
    assert Strategy.start is FedAvg.start
    assert not hasattr(Strategy.start, "__wrapped__"), "Flower's class is as it was"


@pytest.mark.parametrize(
    ("server", "client", "words"),
    [
        ("app = 3", "", "int"),
        ("import nothing_of_the_kind", "", "nothing_of_the_kind"),
        ("", "raise ValueError('no GPU here')", "no GPU here"),
        ("", "def app(): pass", "ClientApp"),
        ("", "other = 1", "app"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_told_before_anything_runs(
    tmp_path: Path, server: str, client: str, words: str
) -> None:
    folder = written(tmp_path / "broken", server, client)
    with pytest.raises(UserError, match=words) as error:
        ran(read_app(folder))
    assert error.value.setting == "app"


def test_a_folder_that_is_no_app_is_refused(tmp_path: Path) -> None:
    for content in (None, "[project]\nname = 'x'\n", "[broken", "[tool.flwr.app.components]\nserverapp = 'a:b'\n"):
        if content is not None:
            (tmp_path / "pyproject.toml").write_text(content)
        with refused(UserError, "app", str(tmp_path)):
            read_app(tmp_path)


def test_settings_are_flat_and_keep_their_types(tmp_path: Path) -> None:
    config = 'lr = 0.5\nrounds = 3\nname = "a"\nquick = true\n[tool.flwr.app.config.train]\nepochs = 2\n'
    made = read_app(written(tmp_path / "set", config=config))
    assert fused_config(made, {}) == {"lr": 0.5, "rounds": 3, "name": "a", "quick": True, "train.epochs": 2}
    assert fused_config(made, {"lr": 1, "train.epochs": 9})["lr"] == 1.0
    with refused(UserError, "speed", 1, ["lr", "name", "quick", "rounds", "train.epochs"]):
        fused_config(made, {"speed": 1})
    for name, value in (("rounds", 2.5), ("quick", 1), ("name", 3), ("lr", True)):
        with refused(UserError, name, value, ANYTHING):
            fused_config(made, {name: value})


def test_the_number_of_clients_is_the_apps_own(app: FlowerApp, tmp_path: Path) -> None:
    assert app.clients == 4
    assert read_app(written(tmp_path / "plain")).clients == 10


def test_a_module_that_hides_an_installed_one_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "hides")
    shutil.copy(folder / "client_app.py", folder / "sklearn.py")
    text = (folder / "pyproject.toml").read_text().replace("client_app:app", "sklearn:app")
    (folder / "pyproject.toml").write_text(text)
    import sklearn  # noqa: F401

    with refused(UserError, "app", "sklearn"):
        load_client_app(read_app(folder))
    sys.path.remove(str(folder))
