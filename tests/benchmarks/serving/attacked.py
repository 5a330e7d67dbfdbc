"""A small finished study of a table, films, texts and heart beats; requests that its models answer; and all routes."""

import base64
import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from PIL import Image

from assay.executors import LocalExecutor
from assay.store.folder import Store
from assay.study.finished import Finished, open_finished
from assay.study.measure import run_trial
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study
from assay.study.run import write_study
from serve.inputs.tables import NamedColumns
from tests.benchmarks.serving.call import Call
from tests.benchmarks.serving.mutated_heads import BINARY
from tests.benchmarks.serving.mutations import Mutations
from tests.serve.inputs.dicom_files import dicom_bytes

_WORDS = (("dull", "poor", "weak"), ("fine", "great", "lovely"))
HIDDEN = (
    ("GET", "/"), ("GET", "/docs"), ("GET", "/docs/favicon.png"), ("GET", "/docs/{file}"), ("GET", "/openapi.json"),
    ("GET", "/page/{file}"), ("GET", "/page/models/{name}"), ("GET", "/page/models/{name}/versions/{version}"),
    ("GET", "/-/healthz"), ("GET", "/-/routes"), ("GET", "/{file}"), ("POST", "/models/{name}/explain"),
    ("POST", "/{file}"),
)  # fmt: skip
"""Routes that the description of the calls does not name, and those of Ray Serve."""


def made(folder: Path) -> dict[str, Finished]:
    """Trains four small models.

    Args:
        folder: data, and ``results``, are written there.

    Returns:
        The models by name.
    """
    study = build_study({"name": "attacked", "split": {"folds": 2}, "cohorts": _cohorts(folder)}, "benchmark")
    store, datasets = Store(str(folder / "results")), load_datasets(study)
    trials = [trial for trial in plan(study, datasets) if trial.fold == 0]
    write_study(study, store, {trial.id: trial.label for trial in trials}, {})
    for trial in trials:
        store.write(run_trial(trial, LocalExecutor(), datasets[trial.cohort]))
    return {name: open_finished(store, recipe=name, cohort=name) for name in study.cohorts}


def _cohorts(folder: Path) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    for number in range(24):
        place = folder / "images" / ("dark", "light")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 120, (20, 24)) + 120 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    with (folder / "texts.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows((" ".join([*draw.choice(_WORDS[k % 2], 2), "the", "film"]), k % 2) for k in range(60))
    training = {"training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.01}}
    images = {"name": "image_folder", "path": str(folder / "images"), "size": 12, "channels": 1}
    texts = {
        "name": "text_file",
        "path": str(folder / "texts.csv"),
        "embedding": {"name": "learned", "dimension": 8},
    }
    network = {"name": "text_cnn", "widths": [2], "channels": 8, "dropout": 0}
    small = {"name": "mlp", "hidden": [8]}
    beats = {"name": "planted_ecg", "size": 60}
    return {
        "beat": {"dataset": beats, "model": small, "evaluations": ["accuracy"], "recipes": {"beat": training}},
        "table": {"dataset": "wdbc", "model": small, "evaluations": ["accuracy"], "recipes": {"table": training}},
        "film": {"dataset": images, "model": small, "evaluations": ["accuracy"], "recipes": {"film": training}},
        "text": {"dataset": texts, "model": network, "evaluations": ["accuracy"], "recipes": {"text": training}},
    }


def answered_calls(models: dict[str, Finished]) -> list[Call]:
    """Returns requests of every kind that the models answer with status 200.

    Args:
        models: by name, as ``made`` returns them.
    """
    calls = [*_of_table(models["table"]), *_of_film(models["film"]), *_of_beat(models["beat"]), *_of_text()]
    for name in models:
        paths = (
            f"/v2/models/{name}",
            f"/v2/models/{name}/ready",
            f"/v1/models/{name}",
            f"/v1/models/{name}/card?html=true",
        )
        calls += [Call("GET", path, (("Accept", "application/json"),)) for path in paths]
    calls.append(_json("/v2/repository/index", {"ready": True}))
    return [
        *calls,
        *(Call("GET", path) for path in ("/v2", "/v2/health/ready", "/v2/health/live", "/v1/models", "/metrics")),
    ]


def mutations_of(models: dict[str, Finished], api: FastAPI, *, seed: int = 0) -> Mutations:
    """Returns the source of malformed requests to a service.

    Args:
        models: that are served.
        api: the application, for its routes.
        seed: of the requests.
    """
    documented = [(method.upper(), path) for path, calls in api.openapi()["paths"].items() for method in calls]
    names = {
        "name": (*models, "other"),
        "version": (*(one.trial for one in models.values()), "1", "2"),
        "file": ("index.html", "app.js", "swagger-ui.css", "robots.txt"),
    }
    return Mutations(answered_calls(models), [*documented, *HIDDEN], names, seed)


def _json(path: str, asked: Any, **headers: str) -> Call:
    given = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Call("POST", path, (("Content-Type", "application/json"), *given), json.dumps(asked).encode())


def _of_table(finished: Finished) -> list[Call]:
    rows = finished.dataset.x[finished.split.test[:3]]
    x, path = rows.tolist(), "/v1/models/table:"
    named = NamedColumns(finished.dataset).record(rows[0])
    tensor = {"name": "records", "shape": [3, 30], "datatype": "FP32", "data": rows.ravel().tolist()}
    infer = "/v2/models/table/infer"
    calls = [
        _json(f"{path}predict", {"instances": x}),
        _json(f"{path}predict", {"instances": [named]}),
        _json(f"{path}explain", {"instances": x[:1], "method": "integrated_gradients"}),
        _json(f"{path}explain", {"instances": x[:1]}, Accept="text/event-stream"),
        _json(f"{path}certify", {"instances": x, "epsilons": [0.0, 0.1]}),
        _json(f"{path}answer", {"instances": x[:1], "about": {"age": 50, "sex": "female"}, "explain": False}),
        _json(infer, {"id": "7", "inputs": [tensor], "outputs": [{"name": "class_index"}]}),
        _json(infer, {"inputs": [{**tensor, "data": x}], "parameters": {"binary_data_output": True}}),
    ]
    for element in ("FP32", "FP64"):
        raw = rows.astype("<f4" if element == "FP32" else "<f8").tobytes()
        calls.append(_binary(infer, raw, {"name": "records", "shape": [3, 30], "datatype": element}))
    return calls


def _binary(path: str, raw: bytes, tensor: dict[str, Any]) -> Call:
    tensor["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return Call("POST", path, (("Content-Type", "application/octet-stream"), (BINARY, str(len(head)))), head + raw)


def _of_film(finished: Finished) -> list[Call]:
    draw = np.random.default_rng(1)
    grey, colour = draw.integers(0, 256, (24, 30)).astype(np.uint8), draw.integers(0, 256, (16, 16, 3)).astype(np.uint8)
    deep = draw.integers(0, 4096, (20, 20)).astype(np.uint16)
    pngs = [_png(grey), _png(colour), _png(deep)]
    dicoms = [
        dicom_bytes(grey),
        dicom_bytes(deep, WindowCenter="2000", WindowWidth="4000", RescaleSlope="1", RescaleIntercept="0"),
    ]
    path, about = "/v1/models/film:", {"age": 3, "view": "AP"}
    record = finished.dataset.x[0]
    tensor = {"name": "records", "shape": [1, *record.shape], "datatype": "FP32"}
    calls = [Call("POST", f"{path}predict", (("Content-Type", "image/png"),), raw) for raw in (pngs[0], pngs[2])]
    calls += [Call("POST", f"{path}predict", (("Content-Type", "application/dicom"),), raw) for raw in dicoms]
    calls += [Call("POST", f"{path}answer", (("Content-Type", "application/dicom"),), dicoms[0])]
    calls += [
        _json(f"{path}predict", {"instances": [{"png": _text(pngs[0])}, {"dicom": _text(dicoms[1])}], "about": about}),
        _json(f"{path}explain", {"instances": [{"dicom": _text(dicoms[0])}], "overlay": True}),
        _json(f"{path}certify", {"instances": [record.tolist()]}),
        _binary("/v2/models/film/infer", record.astype("<f4").tobytes(), tensor),
    ]  # fmt: skip
    return calls


def _of_beat(finished: Finished) -> list[Call]:
    signal = finished.dataset.x[finished.split.test[0]][0].tolist()
    path = "/v1/models/beat:"
    return [
        _json(f"{path}predict", {"instances": [{"signal": signal, "rate": 360, "unit": "mV"}]}),
        _json(f"{path}answer", {"instances": [[signal]], "certify": False}),
    ]


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _of_text() -> list[Call]:
    path, texts = "/v1/models/text:", ["the great film", "a dull, weak film"]
    raw = b"".join(len(one).to_bytes(4, "little") + one.encode() for one in texts)
    tensor = {"name": "records", "shape": [2], "datatype": "BYTES", "data": texts}
    return [
        _json(f"{path}predict", {"instances": texts}),
        _json(f"{path}explain", {"instances": texts[:1]}),
        _json(f"{path}answer", {"instances": texts[:1], "certify": False}),
        _json("/v2/models/text/infer", {"inputs": [tensor]}),
        _binary("/v2/models/text/infer", raw, {"name": "records", "shape": [2], "datatype": "BYTES"}),
    ]
