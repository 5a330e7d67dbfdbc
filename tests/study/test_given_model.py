"""What ``--model`` names: a file that is read, an import path, or an error that says what it is instead."""

import pickle
import re
from pathlib import Path

import pytest

from assay.errors import CheckpointError
from assay.study.given_model import architecture_of


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.joblib", pickle.dumps([1]), "joblib or pickle"),
        ("m.pkl", pickle.dumps([1]), "joblib or pickle"),
        ("w.pt", pickle.dumps({"w": 1}), "torch.save"),
        ("m.h5", b"\x89HDF\r\n\x1a\n", "Keras"),
        ("m.txt", b"hello", "no file of a model"),
    ],
)
def test_a_file_that_is_no_model_is_named_by_what_it_is(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=re.escape(said)) as caught:
        architecture_of(str(path))
    assert (caught.value.setting, caught.value.given) == ("model", str(path))


@pytest.mark.parametrize(("model", "said"), [("package.factory", "no colon"), ("/nowhere/m.pkl", "no such file")])
def test_a_name_that_is_no_import_path_says_what_is_missing(model: str, said: str) -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        architecture_of(model)
    assert (caught.value.setting, caught.value.given) == ("model", model)


def test_an_import_path_and_files_are_taken() -> None:
    assert architecture_of("package.module:factory", "logits")["factory"] == "package.module:factory"
    assert architecture_of("m.ONNX")["name"] == "onnx"
