"""A model of images answers PNG and DICOM, in JSON and as the body, and refuses patients it was not made for."""

import asyncio
import base64
import io
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from assay.data.images.chest_xray import CHILDREN
from assay.executors import LocalExecutor
from assay.store.folder import Store
from assay.study.finished import Finished, open_finished
from assay.study.measure import run_trial
from assay.study.plan import load_datasets, plan
from assay.study.reading import build_study
from assay.study.run import write_study
from serve.api import create_api
from serve.inputs import images
from serve.repository.loaded import Loaded
from serve.repository.online import bring_online
from tests.benchmarks.serving.call import Call
from tests.serve.asgi import answer_to
from tests.serve.inputs.dicom_files import dicom_bytes

V1 = "/v1/models/standard"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("xrays")
    generator = np.random.default_rng(0)
    for number in range(40):
        place = folder / "images" / ("dark", "light")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 120, (20, 24)) + 120 * (number % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    cohort = {
        "dataset": {"name": "image_folder", "path": str(folder / "images"), "size": 12, "channels": 1},
        "model": {"name": "mlp", "hidden": [4]},
        "evaluations": ["accuracy"],
        "recipes": {"standard": {"training": {"epochs": 3, "batch_size": 8, "learning_rate": 0.01}}},
    }
    study = build_study({"name": "xrays", "split": {"folds": 2}, "cohorts": {"xrays": cohort}}, "test")
    store, datasets = Store(str(folder / "results")), load_datasets(study)
    trial = plan(study, datasets)[0]
    write_study(study, store, {trial.id: trial.label}, {})
    store.write(run_trial(trial, LocalExecutor(), datasets["xrays"]))
    opened = open_finished(store, recipe="standard")
    return replace(opened, dataset=replace(opened.dataset, intended_use=CHILDREN))


@pytest.fixture(scope="module")
def client(finished: Finished) -> TestClient:
    api = create_api(Loaded([bring_online(finished, name="standard")]), public=False)
    return TestClient(api, base_url="http://localhost:8000", client=("127.0.0.1", 5000), raise_server_exceptions=False)


PIXELS = np.random.default_rng(1).integers(0, 256, (300, 400)).astype(np.uint8)
ABOUT = {"age": 3, "modality": "DX", "body_part": "CHEST", "view": "AP"}


def png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    return buffer.getvalue()


def text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def test_a_film_has_the_answer_of_its_record_in_every_form(
    client: TestClient, finished: Finished, tmp_path: Path
) -> None:
    # Pillow rounds an image of 8 bits to whole values as it scales it, and a DICOM file not: as in the data set, the
    # records of the two differ by up to half a grey value.
    raw = {"png": png(), "dicom": dicom_bytes(PIXELS)}
    assert finished.dataset.decoder is not None
    for kind, suffix, header in (("png", "png", "image/png"), ("dicom", "dcm", "application/dicom")):
        (tmp_path / f"a.{suffix}").write_bytes(raw[kind])
        record = finished.dataset.decoder.read(tmp_path / f"a.{suffix}").copy()
        with torch.no_grad():
            expected = finished.model(torch.from_numpy(record[None])).softmax(1).numpy()[0]
        answers = [
            client.post(f"{V1}:predict", json={"instances": [{kind: text(raw[kind])}], "about": ABOUT}),
            client.post(f"{V1}:predict", json={"instances": [record.tolist()], "about": ABOUT}),
            client.post(f"{V1}:predict", content=raw[kind], headers={"content-type": header}),
        ]
        for number, answer in enumerate(answers):
            assert answer.status_code == 200, answer.text
            (found,) = answer.json()["predictions"]
            np.testing.assert_allclose(list(found["probabilities"].values()), expected, atol=1e-6)
            unchecked = any("not checked" in one for one in found.get("warnings", ()))
            assert unchecked == (kind == "png" and number == 2)


def test_an_overlay_is_in_pixels_of_the_film(client: TestClient) -> None:
    asked = {"instances": [{"dicom": text(dicom_bytes(PIXELS))}], "overlay": True}
    answer = client.post(f"{V1}:explain", json=asked).json()
    assert answer["explanations"][0]["overlay"]["source"] == list(PIXELS.shape)


def test_a_film_that_may_be_scaled_wrongly_is_unlike_those_that_calibrated_the_model(client: TestClient) -> None:
    ramp = np.tile(np.linspace(0, 255, 400).astype(np.uint8), (300, 1))
    for pixels, doubted in ((ramp, False), (ramp // 5, True)):
        asked = {"instances": [{"dicom": text(dicom_bytes(pixels))}]}
        (one,) = client.post(f"{V1}:answer", json=asked).json()["answers"]
        assert any("answered too dark" in warning for warning in one["warnings"]) == doubted
        assert ("scaled otherwise" in one["out_of_distribution"].get("why", "")) == doubted


@pytest.mark.parametrize(
    ("tags", "reason"), [({"PatientAge": "045Y"}, "age_outside"), ({"ViewPosition": "LL"}, "view_outside")]
)
def test_a_patient_that_it_was_not_made_for_is_refused(client: TestClient, tags: dict[str, Any], reason: str) -> None:
    raw = dicom_bytes(PIXELS, **tags)
    for answer in (
        client.post(f"{V1}:answer", content=raw, headers={"content-type": "application/dicom"}),
        client.post(f"{V1}:predict", json={"instances": [{"dicom": text(raw)}]}),
    ):
        assert answer.status_code == 422 and reason in answer.text and "Lovelace" not in answer.text


def test_other_files_are_refused(client: TestClient) -> None:
    jpeg = client.post(f"{V1}:predict", content=b"\xff\xd8", headers={"content-type": "image/jpeg"})
    packed = client.post(
        f"{V1}:predict", content=png(), headers={"content-type": "image/png", "content-encoding": "gzip"}
    )
    broken = client.post(f"{V1}:predict", content=png()[:99], headers={"content-type": "image/png"})
    assert [one.status_code for one in (jpeg, packed, broken)] == [415, 415, 422]


@pytest.mark.parametrize("call", ["predict", "explain", "answer"])
def test_while_a_film_is_decoded_other_calls_are_answered(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    api = create_api(Loaded([bring_online(finished, name="standard")]), public=False)
    decoding, answered = threading.Event(), threading.Event()
    decode = images._decoded
    waited: list[bool] = []

    def slow(*given: Any) -> Any:
        decoding.set()
        waited.append(answered.wait(20))
        return decode(*given)

    monkeypatch.setattr(images, "_decoded", slow)

    async def both() -> tuple[int, int]:
        headers = (("content-type", "application/dicom"),)
        film = asyncio.create_task(answer_to(api, Call("POST", f"{V1}:{call}", headers, dicom_bytes(PIXELS))))
        while not decoding.is_set():
            await asyncio.sleep(0.01)
        health = await answer_to(api, Call("GET", "/v2/health/live", (), b""))
        answered.set()
        return health.status, (await film).status

    assert asyncio.run(both()) == (200, 200)
    assert waited == [True]
