"""Weights in another format are named as what they are, weights under a prefix are taken, and other kinds refused."""

import gzip
import io
import json
import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from assay.errors import CheckpointError
from assay.training.checkpoints import load_weights, read_weights
from assay.training.foreign_files import describe_file


def archive(*names: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as file:
        for name in names:
            file.writestr(name, "{}")
    return held.getvalue()


def arrays() -> bytes:
    held = io.BytesIO()
    np.savez(held, w=np.zeros(2))
    return held.getvalue()


def tensors() -> bytes:
    held = io.BytesIO()
    torch.save({"w": torch.zeros(2)}, held)
    return held.getvalue()


FILES = [
    ("model.joblib", pickle.dumps([1]), "joblib or pickle"),
    *(("model.joblib", zlib.compress(b"x" * 99, level), "zlib, as joblib does") for level in (0, 3, 6, 9)),
    ("model.joblib", gzip.compress(pickle.dumps([1])), "gzip, as joblib does"),
    ("model.pkl", pickle.dumps([1]), "joblib or pickle"),
    ("model.pt", tensors(), "torch.save"),
    ("model.pt", pickle.dumps({"w": 1}), "torch.save"),
    ("model.npz", arrays(), ".npz"),
    ("model.keras", archive("config.json", "model.weights.h5"), "Keras"),
    ("model.h5", b"\x89HDF\r\n\x1a\n", "Keras"),
    ("model.skops", archive("schema.json"), "skops"),
    ("model.onnx", b"\x08\x09", "ONNX"),
    ("model.zip", b"PK\x03\x04 cut off", "damaged"),
]


@pytest.mark.parametrize(
    ("name", "content", "called"), FILES, ids=[f"{number}-{name}" for number, (name, _, _) in enumerate(FILES)]
)
def test_a_file_of_another_format_is_named(name: str, content: bytes, called: str, tmp_path: Path) -> None:
    assert called in describe_file(content, name)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_weights(str(tmp_path / name))
    assert called in str(caught.value)
    assert caught.value.setting == "weights"


def test_what_is_unknown_is_not_guessed() -> None:
    assert describe_file(json.dumps({}).encode(), "weights.safetensors") == ""


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_weights_under_one_prefix_are_taken(prefix: str, tmp_path: Path) -> None:
    plain, other = nn.Linear(3, 2), nn.Linear(3, 2)
    save_file({prefix + name: tensor for name, tensor in plain.state_dict().items()}, tmp_path / "w.safetensors")
    load_weights(other, read_weights(str(tmp_path / "w.safetensors")), "w")
    assert torch.equal(other.weight, plain.weight)
    assert torch.equal(other.bias, plain.bias)


def test_plain_weights_fit_a_model_behind_a_wrapper() -> None:
    plain = nn.Linear(3, 2)
    wrapped = nn.DataParallel(nn.Linear(3, 2))
    load_weights(wrapped, plain.state_dict(), "w")
    assert torch.equal(wrapped.module.weight, plain.weight)


def test_two_prefixes_are_no_prefix() -> None:
    plain = nn.Linear(3, 2).state_dict()
    with pytest.raises(CheckpointError) as caught:
        load_weights(nn.Linear(3, 2), {"a.weight": plain["weight"], "b.bias": plain["bias"]}, "w")
    assert len(caught.value.given) == 4


@pytest.mark.parametrize("kind", [torch.int32, torch.int8, torch.uint8, torch.bool, torch.complex64])
def test_weights_of_another_kind_of_number_are_refused(kind: torch.dtype) -> None:
    model = nn.Linear(3, 2)
    changed = {name: tensor.to(kind) for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, changed, "w")
    assert [problem.split()[0] for problem in caught.value.given] == ["weight", "bias"]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_taken(kind: torch.dtype) -> None:
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    load_weights(other, {name: tensor.to(kind) for name, tensor in model.state_dict().items()}, "w")
    torch.testing.assert_close(other.weight, model.weight, rtol=1e-2, atol=1e-2)
