"""Words of texts in any script: what a reader would tell apart is told apart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.data.text.words import words_of
from assay.registry import build


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("患者主诉胸痛,3天。", ["患", "者", "主", "诉", "胸", "痛", ",", "3", "天", "。"], id="Chinese"),
        pytest.param("患者さん、ECG正常", ["患", "者", "さ", "ん", "、", "ecg", "正", "常"], id="Japanese"),
        pytest.param("ผู้ป่วย", ["ผู้", "ป่", "ว", "ย"], id="Thai: vowel signs stay"),
        pytest.param("환자는 두통", ["환자는", "두통"], id="Korean has spaces"),
        pytest.param("हिन्दी में", ["हिन्दी", "में"], id="Hindi: vowel signs are no marks"),
        pytest.param("Cafe\u0301 naïve", ["café", "naïve"], id="one way of writing accents"),
        pytest.param("Well, it's 3.5", ["well", ",", "it", "'", "s", "3", ".", "5"], id="English"),
        pytest.param("Größe: 3½ µg", ["größe", ":", "3½", "µg"], id="German"),
    ],
)
def test_words_are_told_apart_in_any_script(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def load(folder: Path, texts: list[str], embedding: str = "learned") -> Any:
    rows = "\n".join(f"{text},{number % 2}" for number, text in enumerate(texts))
    (folder / "notes.csv").write_text(f"text,label\n{rows}\n")
    source: Any = build("dataset", {"name": "text_file", "path": str(folder / "notes.csv"), "embedding": embedding})
    return source.load()


CHINESE = ["胸痛三天", "头痛两天", "腹痛一天", "胸痛一天", "头痛三天", "腹痛两天"] * 2


def test_texts_without_spaces_share_their_words(tmp_path: Path) -> None:
    data = load(tmp_path, CHINESE)
    assert not data.warnings
    assert "12 texts have characters of scripts without spaces: each of these is a word" in data.reading
    made = data.prepared(np.arange(6), seed=0)
    assert (made.x[6:] == 1).mean() == 0 and not made.warnings


@pytest.mark.parametrize("texts", [["fracture", "normal!", "effusion", "mass"] * 3, [f"a{n:03}" for n in range(12)]])
def test_texts_of_a_single_word_are_warned_of(tmp_path: Path, texts: list[str]) -> None:
    assert any("12 of 12 texts are a single word" in line for line in load(tmp_path, texts).warnings)


def test_unknown_words_beyond_training_are_warned_of(tmp_path: Path) -> None:
    known = ["chest pain today", "chest pain now"] * 3
    foreign = load(tmp_path, [*known, *["douleur au thorax", "dor no peito"] * 3]).prepared(np.arange(6), seed=0)
    assert any("100% of the words of texts that are not for training" in line for line in foreign.warnings)
    assert not load(tmp_path, known * 2).prepared(np.arange(6), seed=0).warnings
    # Counted on records, so a private model does not show it.
    assert not foreign.for_others.warnings
