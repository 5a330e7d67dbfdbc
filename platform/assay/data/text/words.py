"""Words of a text, and texts as positions of words. Numbering words learns nothing from them."""

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

_ASCII = re.compile(r"\w+|[^\w\s]")
_TAG = re.compile(r"<[^<>]*>")
PADDING = ""
_UNSPACED = (
    "\u0e00-\u0e4f\u0e5a-\u0eff\u1000-\u103f\u1050-\u109f\u1780-\u17df\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3040-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
"""Scripts that are written without spaces between words: Thai, Lao, Burmese, Khmer, Japanese and Chinese."""


def words_of(text: str) -> list[str]:
    """Returns the lower-case words and punctuation marks of a text, without HTML.

    Args:
        text: the text.

    Returns:
        The words; single characters of scripts without spaces between words.
    """
    plain = html.unescape(_TAG.sub(" ", text)).lower()
    return _ASCII.findall(plain) if plain.isascii() else _word().findall(unicodedata.normalize("NFC", plain))


def without_spaces(text: str) -> bool:
    """Returns whether a text has characters of a script that is written without spaces between words.

    Args:
        text: the text.

    Returns:
        True if it has.
    """
    return not text.isascii() and re.search(f"[{_UNSPACED}]", text) is not None


def is_word(written: str) -> bool:
    """Returns whether a token is a word, or a character that stands for one, and not a punctuation mark.

    Args:
        written: the token.

    Returns:
        True if it is.
    """
    return any(character.isalnum() for character in written)


@cache
def _word() -> re.Pattern[str]:
    """Returns the pattern of one word, character or mark, with the accents and vowel signs written around it."""
    marks = _ranges(
        [n for n in (*range(0x20000), *range(0xE0100, 0xE01F0)) if unicodedata.category(chr(n)) in ("Mn", "Mc")]
    )
    kept = f"(?:[^\\W{_UNSPACED}]|[{marks}])"
    return re.compile(f"[{_UNSPACED}][{marks}]*|[^\\W{_UNSPACED}]{kept}*|[^\\w\\s][{marks}]*")


def _ranges(numbers: Sequence[int]) -> str:
    """Returns increasing code points as ranges of a regular expression."""

    def runs() -> Iterator[str]:
        first = last = numbers[0]
        for number in (*numbers[1:], -1):
            if number != last + 1:
                yield f"{chr(first)}-{chr(last)}"
                first = number
            last = number

    return "".join(runs())


def as_positions(sentences: Sequence[Sequence[str]], length: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the words that occur, and the sentences as positions among them.

    Args:
        sentences: each a list of words.
        length: greatest number of words of a sentence that are used.

    Returns:
        The words, padding first, and (n, longest) int32 positions.
    """
    kept = [sentence[:length] for sentence in sentences]
    words = (PADDING, *sorted({word for sentence in kept for word in sentence}))
    place = {word: number for number, word in enumerate(words)}
    written = np.zeros((len(kept), max(len(sentence) for sentence in kept)), np.int32)
    for row, sentence in zip(written, kept, strict=True):
        row[: len(sentence)] = [place[word] for word in sentence]
    return words, written
