"""The page in a browser: a record is changed, asked, answered in full; nothing is asked of anyone else."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from assay.data.intended_use import IntendedUse
from assay.store.folder import Store
from assay.study.finished import open_finished
from serve.api import create_api
from serve.inputs.read import Reader
from serve.model import ServedModel
from serve.page.facts import facts_of
from serve.page.samples import samples_of
from serve.repository.loaded import Loaded
from serve.repository.online import Online, bring_online
from tests.serve.inputs.dicom_files import dicom_bytes
from tests.serve.pages import Served, trained


@pytest.fixture(scope="module")
def table(store: Store) -> Online:
    return bring_online(open_finished(store, recipe="standard"), name="standard")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Online:
    """A model whose data set says how files become records."""
    model = {"name": "mlp", "hidden": [8]}
    finished = trained(tmp_path_factory.mktemp("digits"), "digits", "digits", model, epochs=2, learning_rate=0.01)
    return bring_online(finished, name="digits")


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Online:
    """A model whose data set says nothing of files: the page makes records of them."""
    dataset = {"name": "planted_images", "size": 120}
    model = {"name": "mlp", "hidden": [8]}
    finished = trained(tmp_path_factory.mktemp("arrays"), "arrays", dataset, model, epochs=2, learning_rate=0.01)
    return bring_online(finished, name="arrays")


@pytest.fixture(scope="module")
def address(table: Online, images: Online, arrays: Online) -> Iterator[str]:
    served = Served(table, images, arrays)
    yield served.address
    served.stop()


class Visit:
    """The page as a browser opened it, with whatever it complained of, and every address that it asked."""

    def __init__(self, browser: Any, address: str) -> None:
        self.errors: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_page(viewport={"width": 1600, "height": 1000})
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)
        self.page.wait_for_selector("body[data-ready]")

    def choose(self, model: str) -> None:
        self.page.select_option("#model", model)
        self.page.wait_for_selector(f"body[data-ready={model}]")

    def ask(self) -> Any:
        """Asks by the keyboard; returns the answer of the server. ``sent`` is what was asked."""
        with self.page.expect_response("**:answer") as answered:
            self.page.focus("#send")
            self.page.keyboard.press("Enter")
        self.page.wait_for_selector("#send:not(:disabled)")
        self.sent = answered.value.request.post_data_json
        return answered.value.json()

    def text(self, where: str) -> str:
        return str(self.page.locator(where).inner_text())


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    found = Visit(browser, address)
    yield found
    found.page.close()
    assert [one for one in found.asked if not one.startswith((address, "data:"))] == []
    assert found.errors == []


def test_a_changed_value_is_asked_and_answered_in_full(visit: Visit, table: Online) -> None:
    dataset = table.model.dataset
    visit.choose("standard")
    assert visit.page.locator("#record tbody tr").count() == 30
    visit.page.fill("#field-0", "17.5")
    whole = visit.ask()
    (answer,) = whole["answers"]
    # What was typed is sent in the unit of the feature, by its name.
    assert visit.sent["instances"][0]["mean radius"] == 17.5 and len(visit.sent["instances"][0]) == 30
    assert visit.text(".decision .class") == answer["class_name"]
    assert visit.text(".decision .set") == "{ " + ", ".join(answer["prediction_set"]["classes"]) + " }"
    assert visit.page.locator(".decision .bars tr").count() == 2
    rows = visit.page.locator(".explanation tbody tr").all_inner_texts()
    values = np.array(answer["explanation"]["attributions"])
    strongest = dataset.feature_names[int(np.abs(values).argmax())]
    assert len(rows) == 30 or visit.page.locator(".contributions tbody tr").count() == 30
    assert rows[0].startswith(strongest) and ("−" if values[np.abs(values).argmax()] < 0 else "+") in rows[0]
    about = whole["explanation"]
    assert about["faithfulness"] in visit.text(".explanation")
    assert about["fidelity"]["faithfulness"] is None and "Not measured" in visit.text(".explanation")
    assert f"(limit {100 * about['fidelity']['error_limit']:.1f}\u00a0%)" in visit.text(".explanation")
    told = answer["prediction_set"]
    assert told["valid"] is False and f"Not promised: {told['why_not']}" in visit.text(".decision")
    assert answer["left_to_clinician"]["valid"] is False
    if not answer["left_to_clinician"]["left"]:
        state = visit.page.locator(".decision .state").first
        assert "good" not in str(state.get_attribute("class"))
        assert "its rule of abstention was not checked for this hospital" in state.inner_text()
    assert "This does not say that the class is right." in visit.text(".certificate")
    radius = answer["certificate"]["radius"]
    assert (f"radius {radius:g}" if radius else "nothing proven") in visit.text(".certificate")
    assert whole["artefact"] in visit.text(".origin")
    assert visit.page.locator("#stale").is_hidden()
    visit.page.fill("#field-1", "20")
    assert visit.page.locator("#stale").is_visible()


@pytest.mark.parametrize(("why", "kind"), [("", "good"), ("its rule was not checked for this hospital", "unknown")])
def test_an_answer_is_green_only_where_its_rule_of_abstention_is_promised(visit: Visit, why: str, kind: str) -> None:
    def given(route: Any) -> None:
        answer = route.fetch()
        whole = answer.json()
        about = {"left": False, "why": "", "valid": not why, "why_not_valid": why, "risk_checked": True}
        whole["answers"][0]["left_to_clinician"] = about
        route.fulfill(response=answer, json=whole)

    visit.page.route("**:answer", given)
    visit.choose("standard")
    visit.ask()
    state = visit.page.locator(".decision .state").first
    assert state.get_attribute("class") == f"state {kind}"
    assert f"Answered by the model: {why or 'it is certain enough by the rule of abstention'}" in state.inner_text()


def ramp(folder: Path) -> Path:
    """A file of 60 × 40 pixels, brighter from left to right."""
    Image.fromarray(np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1))).save(folder / "ramp.png")
    return folder / "ramp.png"


def test_a_file_is_sent_as_it_is_and_its_map_lies_over_its_own_pixels(visit: Visit, tmp_path: Path) -> None:
    visit.choose("digits")
    visit.page.set_input_files("#file", ramp(tmp_path))
    visit.page.wait_for_selector("#record :text('60 × 40 pixels')")
    whole = visit.ask()
    assert base64.b64decode(visit.sent["instances"][0]["png"]) == (tmp_path / "ramp.png").read_bytes()
    drawn = whole["answers"][0]["explanation"]["overlay"]
    assert drawn["source"] == [40, 60]
    size = "one => one.decode().then(() => [one.naturalWidth, one.naturalHeight])"
    assert visit.page.locator("img.over:not(.record)").evaluate(size) == [60, 40]
    record = visit.page.locator("img.record").first
    assert record.evaluate(size) == [8, 8]
    assert "interval bound" in visit.text(".certificate") or "proven" in visit.text(".certificate")


def test_a_record_is_shown_where_it_was_cut_out_of_its_image(visit: Visit, tmp_path: Path) -> None:
    def cut(route: Any) -> None:
        answer = route.fetch()
        whole = answer.json()
        whole["answers"][0]["explanation"]["overlay"]["box"] = [15, 0, 45, 30]
        route.fulfill(response=answer, json=whole)

    visit.page.route("**:answer", cut)
    visit.choose("digits")
    visit.page.set_input_files("#file", ramp(tmp_path))
    visit.page.wait_for_selector("#record :text('60 × 40 pixels')")
    visit.ask()
    place = """one => { const all = one.parentElement; return [one.offsetLeft / all.offsetWidth,
        one.offsetWidth / all.offsetWidth, one.offsetTop / all.offsetHeight, one.offsetHeight / all.offsetHeight]; }"""
    found = visit.page.locator("img.record").first.evaluate(place)
    assert found == pytest.approx([0.25, 0.5, 0, 0.75], abs=0.02)


def test_a_dicom_file_is_sent_though_no_browser_draws_it(visit: Visit, tmp_path: Path) -> None:
    visit.choose("digits")
    content = dicom_bytes(np.arange(600, dtype=np.uint8).reshape(20, 30))
    (tmp_path / "one.dcm").write_bytes(content)
    visit.page.set_input_files("#file", tmp_path / "one.dcm")
    visit.page.wait_for_selector("#record :text('browsers do not draw')")
    assert visit.page.locator("#record canvas").is_hidden()
    assert visit.page.input_value("#sample") == ""
    visit.ask()
    assert base64.b64decode(visit.sent["instances"][0]["dicom"]) == content
    assert visit.page.locator("img.record").count() == 2


def test_an_image_is_scaled_by_the_page_where_the_data_set_does_not_say_how(visit: Visit, tmp_path: Path) -> None:
    visit.choose("arrays")
    visit.page.set_input_files("#file", ramp(tmp_path))
    visit.page.wait_for_selector("#record :text('by this page')")
    visit.ask()
    (record,) = np.array(visit.sent["instances"][0])
    assert record.shape == (28, 28)
    # The middle 40 of 60 columns, which rise from 40 to 196 of 255.
    np.testing.assert_allclose(record, np.tile((40 + 160 * (np.arange(28) + 0.5) / 28) / 255, (28, 1)), atol=0.03)


def test_an_error_is_shown_as_text(visit: Visit) -> None:
    visit.choose("standard")
    visit.page.fill("#field-0", "99999")
    with visit.page.expect_response("**:answer") as answered:
        visit.page.click("#send")
    visit.page.wait_for_selector("#error:not([hidden])")
    assert answered.value.status == 422
    assert answered.value.json()["error"] in visit.text("#error")
    # The browser itself reports the status; nothing else may have gone wrong.
    assert len(visit.errors) == 1 and "422" in visit.errors.pop()


def test_nothing_is_loaded_from_elsewhere_and_no_script_may_stand_in_the_page(visit: Visit, address: str) -> None:
    refused = """() => new Promise((told) => {
        document.addEventListener('securitypolicyviolation', (event) => told(event.effectiveDirective));
        setTimeout(() => told('no violation'), 3000);
        document.body.append(Object.assign(document.createElement('script'), { textContent: '1' })); })"""
    assert visit.page.evaluate(refused).startswith("script-src")
    assert "Content Security Policy" in visit.errors.pop()
    headers = visit.page.request.get(address + "page/page.js").headers
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert visit.page.request.get(address + "page/facts.py").status == 404


def test_every_field_has_a_name_and_the_answer_is_announced(visit: Visit) -> None:
    unnamed = (
        "() => [...document.querySelectorAll('input, select, textarea')].filter((one) => !one.labels.length).length"
    )
    assert visit.page.evaluate(unnamed) == 0
    answer = visit.ask()["answers"][0]
    assert visit.text("#said").startswith(f"Answer: {answer['class_name']}, ")


@pytest.mark.parametrize("change", ["public", "private", "licence"])
def test_records_are_shown_only_where_the_data_allow_it(store: Store, change: str) -> None:
    finished = open_finished(store, recipe="private" if change == "private" else "standard")
    if change == "licence":
        finished = replace(finished, dataset=replace(finished.dataset, licence="CC BY-NC 4.0"))
    samples, why = samples_of(ServedModel(finished), public=change == "public")
    assert [one.title.startswith("neutral") for one in samples] == [True]
    assert {"public": "served to others", "private": "trained privately", "licence": "CC BY-NC 4.0"}[change] in why


def test_samples_are_test_records_and_no_copies_of_training_records(table: Online) -> None:
    finished = table.model.finished
    row = int(finished.split.test[0])
    x = finished.dataset.x.copy()
    x[finished.split.train[0]] = x[row]
    copied = replace(table.model.finished, dataset=replace(finished.dataset, x=x))
    for one, has_it in ((finished, True), (copied, False)):
        samples, why = samples_of(ServedModel(one), public=False)
        assert not why and len(samples) == 7
        columns = table.model.reader.columns
        assert columns is not None
        shown = columns.inputs([sample.record for sample in samples[:-1]])[0].astype(np.float32)
        assert any(np.allclose(record, x[row], atol=1e-5) for record in shown) == has_it
        test = one.dataset.x[one.split.test]
        assert all((abs(test - record) < 1e-5).all(1).any() for record in shown)


def test_the_range_of_training_records_of_a_private_model_is_not_told(store: Store, table: Online) -> None:
    online = bring_online(open_finished(store, recipe="private"), name="private")
    for one, private in ((table, False), (online, True)):
        facts = facts_of(one, ["1"], public=False)
        dataset = one.model.dataset
        low, high = facts["columns"][0]["range"]
        feature = dataset.features[0]
        valid = feature.center + feature.scale * dataset.high[0]
        trained_on = feature.center + feature.scale * dataset.x[one.model.finished.split.train, 0].max()
        assert facts["range_is"] == ("valid" if private else "training")
        assert low < high == pytest.approx(valid if private else trained_on, rel=1e-6)


def test_overlays_are_of_images_and_of_few(table: Online, arrays: Online) -> None:
    api = create_api(Loaded([table, arrays]), public=False)
    client = TestClient(api, base_url="http://localhost:8000", client=("127.0.0.1", 5000))
    record = np.full((1, 28, 28), 0.5).tolist()
    refused = client.post("/v1/models/standard:answer", json={"instances": [[0.0] * 30], "overlay": True})
    assert (refused.status_code, "overlays are of images" in refused.json()["error"]) == (422, True)
    refused = client.post("/v1/models/arrays:explain", json={"instances": [record] * 9, "overlay": True})
    assert (refused.status_code, "at most 8 records" in refused.json()["error"]) == (422, True)
    found = client.post("/v1/models/arrays:explain", json={"instances": [record] * 2, "overlay": True}).json()
    assert found["overlay_scale"] > 0
    assert found["explanations"][0]["overlay"] == found["explanations"][1]["overlay"]


def test_whom_the_record_is_of_is_asked_and_sent(browser: Any, images: Online) -> None:
    use = IntendedUse(records="chest X-rays of children", ages=(1, 5), views=("AP", "PA"))
    model = images.model
    # The reader and the page ask the data set.
    dataset = replace(model.dataset, intended_use=use)
    reader = Reader(dataset, train=model.finished.split.train)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "dataset", dataset)
        patch.setattr(model, "reader", reader)
        served = Served(images)
        try:
            visit = Visit(browser, served.address)
            fields = visit.page.locator("#whom label").all_inner_texts()
            assert len(fields) == 2 and fields[0].startswith("age")
            assert "about" not in (visit.ask() and visit.sent)
            visit.page.fill("#about-0", "4")
            visit.page.select_option("#about-1", "PA")
            assert visit.page.locator("#stale").is_visible()
            visit.ask()
            assert visit.sent["about"] == {"age": 4, "view": "PA"}
            visit.page.fill("#about-0", "40")
            with visit.page.expect_response("**:answer") as answered:
                visit.page.click("#send")
            assert answered.value.status == 422
            visit.page.wait_for_selector("#error:not([hidden])")
            assert "1 to 5 years" in visit.text("#error")
            visit.page.close()
        finally:
            served.stop()
