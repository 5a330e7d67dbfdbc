"""Small finished trials, and a server of their models, for tests of the page."""

import socket
import threading
from pathlib import Path
from typing import Any

import uvicorn

from assay.executors import LocalExecutor
from assay.store.folder import Store
from assay.study.finished import Finished, open_finished
from assay.study.measure import run_trial
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study
from assay.study.run import write_study
from serve.api import create_api
from serve.repository.loaded import Loaded
from serve.repository.online import Online


def trained(folder: Path, name: str, dataset: Any, model: Any, **training: Any) -> Finished:
    """Trains one small model; ``name`` is its recipe."""
    cohort = {
        "dataset": dataset,
        "model": model,
        "evaluations": ["accuracy"],
        "recipes": {name: {"training": training}},
    }
    study = build_study({"name": "small", "split": {"folds": 2}, "cohorts": {"only": cohort}}, "test")
    store, datasets = Store(str(folder)), load_datasets(study)
    trial = plan(study, datasets)[0]
    write_study(study, store, {trial.id: trial.label}, {})
    store.write(run_trial(trial, LocalExecutor(), datasets["only"]))
    return open_finished(store, recipe=name)


class Served:
    """Models behind uvicorn in a thread of this process."""

    def __init__(self, *online: Online) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"http://localhost:{self._socket.getsockname()[1]}/"
        api = create_api(Loaded(online), public=False)
        self._server = uvicorn.Server(uvicorn.Config(api, log_level="error", access_log=False))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
