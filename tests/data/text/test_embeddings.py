"""What is learnt about words is learnt from the training split alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.data.base import Dataset
from assay.data.text.embeddings import common_words
from assay.errors import DataError
from assay.registry import build

ROWS = [
    ("the good film", "1"),
    ("the bad film", "0"),
    ("good good good", "1"),
    ("bad the bad", "0"),
    ("unseen words here", "1"),
    ("unseen words there", "0"),
]
TRAIN = np.arange(4)


@pytest.fixture
def corpus(tmp_path: Path) -> Any:
    def load(embedding: Any) -> Dataset:
        path = tmp_path / "texts.csv"
        path.write_text("text,label\n" + "\n".join(f"{text},{label}" for text, label in ROWS))
        return build("dataset", {"name": "text_file", "path": str(path), "embedding": embedding}).load()

    return load


@pytest.mark.parametrize("embedding", ["learned", {"name": "word2vec", "dimension": 8, "epochs": 1}])
def test_the_vocabulary_holds_words_of_the_training_split_only(corpus: Any, embedding: Any) -> None:
    prepared = corpus(embedding).prepared(TRAIN, seed=1)
    assert prepared.tokens is not None
    assert set(prepared.tokens.words[2:]) == {"the", "good", "bad", "film"}
    assert (prepared.x[4:] == 1).sum() == 6
    assert not (prepared.x[:4] == 1).any()


@pytest.mark.parametrize("embedding", ["learned", {"name": "word2vec", "dimension": 8, "epochs": 1}])
def test_texts_outside_the_training_split_change_nothing_that_is_learnt(
    corpus: Any, embedding: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = corpus(embedding).prepared(TRAIN, seed=1)
    monkeypatch.setitem(globals(), "ROWS", [*ROWS[:4], ("film film film", "1"), ("good bad", "0")])
    after = corpus(embedding).prepared(TRAIN, seed=1)
    assert before.tokens.words == after.tokens.words
    assert np.array_equal(before.tokens.vectors, after.tokens.vectors)


@pytest.mark.parametrize("embedding", ["learned", {"name": "word2vec", "dimension": 8, "epochs": 2}])
def test_vectors_depend_on_the_seed_alone_and_padding_is_zero(corpus: Any, embedding: Any) -> None:
    one, again, other = (corpus(embedding).prepared(TRAIN, seed=seed).tokens.vectors for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.allclose(one[2:], other[2:])
    assert not one[0].any()
    assert one.dtype == np.float32


def test_new_sentences_are_encoded_as_the_records_are(corpus: Any) -> None:
    prepared = corpus("learned").prepared(TRAIN, seed=1)
    sentences = [text.split() for text, _ in ROWS]
    assert np.array_equal(prepared.language.encode(sentences), prepared.x)


def test_a_vocabulary_learnt_from_patients_is_unpaid_and_a_public_one_is_not(corpus: Any, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("good\nbad\nrare\n")
    learnt = corpus("learned").prepared(TRAIN, seed=1)
    public = corpus({"name": "learned", "vocabulary": str(tmp_path / "words.txt")}).prepared(TRAIN, seed=1)
    assert (learnt.unpaid_preprocessing, public.unpaid_preprocessing) == (True, False)
    assert public.tokens.words[2:] == ("good", "bad", "rare")


def test_rare_words_are_unknown(corpus: Any) -> None:
    prepared = corpus({"name": "learned", "smallest_count": 3}).prepared(TRAIN, seed=1)
    assert set(prepared.tokens.words[2:]) == {"the", "good", "bad"}
    assert common_words(corpus("learned"), TRAIN, 4) == ("good",)


def test_published_vectors_are_read_and_owe_nothing(corpus: Any, tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("4 2\ngood 1 0\nbad -1 0\nhere 0 2\nelsewhere 4 4\n")
    prepared = corpus({"name": "word2vec", "path": str(path)}).prepared(TRAIN, seed=1)
    table = dict(zip(prepared.tokens.words, prepared.tokens.vectors, strict=True))
    assert tuple(table) == ("", "<unknown>", "good", "bad", "here", "elsewhere")
    np.testing.assert_allclose(table["good"] / table["here"][1], [0.5, 0.0])
    whole = np.array([[1, 0], [-1, 0], [0, 2], [4, 4]])
    np.testing.assert_allclose(prepared.tokens.vectors[2:], whole / whole.std(), rtol=1e-6)
    np.testing.assert_allclose(table["<unknown>"], (whole / whole.std()).mean(0), rtol=1e-6)
    assert not prepared.unpaid_preprocessing


def test_published_vectors_do_not_depend_on_the_texts(
    corpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("3 2\ngood 1 0\nbad -1 0\nelsewhere 4 4\n")
    chosen = {"name": "word2vec", "path": str(path)}
    before = corpus(chosen).prepared(TRAIN, seed=1)
    monkeypatch.setitem(globals(), "ROWS", [*ROWS[:5], ("unseen words elsewhere", "0")])
    after = corpus(chosen).prepared(TRAIN, seed=1)
    assert before.tokens.words == after.tokens.words
    assert np.array_equal(before.tokens.vectors, after.tokens.vectors)
    assert np.array_equal(before.high, after.high)


def test_word2vec_without_a_common_word_names_the_setting(corpus: Any) -> None:
    with pytest.raises(DataError, match=r"none of the 4 words of the training split occurs smallest_count=5 times"):
        corpus({"name": "word2vec", "smallest_count": 5}).prepared(TRAIN, seed=1)


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "cannot be read"), ("1 2\nelsewhere 1 2\n", "know none of the"), (None, "cannot be read")],
)
def test_vectors_that_help_nobody_are_an_error(corpus: Any, tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "vectors.txt"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=said):
        corpus({"name": "word2vec", "path": str(path)}).prepared(TRAIN, seed=1)


def test_words_that_stand_together_come_to_lie_together(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    lines = []
    for _ in range(400):
        topic = ["fever cough ache", "bank money loan"][int(generator.integers(2))].split()
        lines.append(" ".join(generator.permutation([*topic, *topic])) + ",0")
    path = tmp_path / "topics.csv"
    path.write_text("text,label\n" + "\n".join(lines) + "\nother,1\n")
    chosen = {"name": "word2vec", "dimension": 10, "epochs": 5, "window": 3}
    dataset = build("dataset", {"name": "text_file", "path": str(path), "embedding": chosen}).load()
    tokens = dataset.prepared(np.arange(400), seed=0).tokens
    units = tokens.vectors / np.linalg.norm(tokens.vectors, axis=1, keepdims=True).clip(1e-9)
    vectors = dict(zip(tokens.words, units, strict=True))
    assert vectors["fever"] @ vectors["cough"] > vectors["fever"] @ vectors["money"] + 0.3
