"""Text: sentences as positions of words, and the files and hubs that they come from.

Cutting a sentence into words and naming the words learns nothing, so it is done once, here. What is learnt (which words
are known, and a vector for each) is an embedding's part, which sees the training split only.
"""

import csv
import html
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from assay.data.base import PARTS, Dataset, Source
from assay.data.identifiers import as_groups, group_column, refuse_alike
from assay.data.locate import absent, find
from assay.errors import DataError
from assay.registry import choice_of, register

_WORD = re.compile(r"\w+|[^\w\s]")
_TAG = re.compile(r"<[^<>]*>")
PADDING = ""


def words_of(text: str) -> list[str]:
    """Lower-case words and punctuation marks, without HTML."""
    return _WORD.findall(html.unescape(_TAG.sub(" ", text)).lower())


@dataclass(frozen=True, kw_only=True)
class Document:
    """One labelled text."""

    text: str
    label: str
    part: str = ""
    """One of ``PARTS`` where the texts come with a split; empty where they do not."""
    group: str = ""


class TextSource(Source):
    """What all sources of text have in common. Write ``documents``."""

    length: int = Field(default=64, ge=1)
    """Words of a text that are read; the rest is cut off."""
    embedding: choice_of("embedding") = Field(default="learned")  # type: ignore[valid-type]
    """How words become vectors: ``learned``, ``word2vec`` or ``encoder``."""

    classes: ClassVar[Mapping[str, str]] = {}
    """Label to name of class, in order."""
    licence_text: ClassVar[str] = "unknown"
    citation_text: ClassVar[str] = ""

    def documents(self) -> list[Document]:
        """Every text of the data set.

        Raises:
            DataError: they are absent or unusable.
        """
        raise NotImplementedError

    def classes_of(self, documents: list[Document]) -> Mapping[str, str]:
        """Label to name of class, in order."""
        return self.classes

    def known_as(self) -> str:
        return self.name

    def warnings(self) -> tuple[str, ...]:
        return ()

    def owes(self) -> str:
        return self.embedding.owes()

    def load(self) -> Dataset:
        documents = self.documents()
        names = dict(self.classes_of(documents))
        strange = next((number for number, d in enumerate(documents) if d.label not in names), None)
        if strange is not None:
            raise DataError(
                f"{self.known_as()}: text {strange + 1} has the label {documents[strange].label!r}, outside the "
                f"classes {', '.join(names)}"
            )
        sentences = [words_of(document.text) for document in documents]
        empty = next((number for number, sentence in enumerate(sentences) if not sentence), None)
        if empty is not None:
            raise DataError(f"{self.known_as()}: text {empty + 1} holds no word; drop it")
        words, written = as_positions(sentences, self.length)
        parts = np.array([document.part for document in documents])
        groups = np.array([document.group for document in documents])
        cut = sum(len(sentence) > self.length for sentence in sentences)
        return Dataset(
            name=self.known_as(),
            modality="text",
            x=written,
            y=np.array([list(names).index(document.label) for document in documents], np.int64),
            class_names=tuple(names.values()),
            feature_names=(),
            low=np.zeros(1, np.float32),
            high=np.array([len(words)], np.float32),
            units="entries of a word's vector",
            epsilons=self.embedding.epsilons,
            groups=groups if any(groups) else None,
            licence=self.licence_text,
            citation=self.citation_text,
            preprocessing=f"lower case, words and punctuation apart; {cut} of {len(documents)} texts cut to their "
            f"first {self.length} words",
            official=parts if any(parts) else None,
            words=words,
            written=written,
            preparation=self.embedding,
            warnings=self.warnings(),
        )


@register("dataset")
class SST2(TextSource):
    """Sentences of film reviews, negative or positive: local sentence-level files, or GLUE's SST-2 from the hub.

    Locally ``sst2/sentences_{train,dev,test}.tsv``. The hub's test labels are hidden, so its validation sentences are
    the test there, and validation sentences are drawn from training.
    """

    name: Literal["sst2"] = "sst2"
    classes: ClassVar[Mapping[str, str]] = {"0": "negative", "1": "positive"}
    licence_text: ClassVar[str] = "research use"
    citation_text: ClassVar[str] = (
        "Socher et al. (2013), Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank, EMNLP"
    )

    def documents(self) -> list[Document]:
        folder = find("sst2")
        files = {part: f"sentences_{'dev' if part == 'validation' else part}.tsv" for part in PARTS}
        if folder is None:
            return _from_hub(
                "sst2",
                "stanfordnlp/sst2",
                {"train": "train", "validation": "test"},
                text="sentence",
                wanted="sst2/sentences_train.tsv",
            )
        return [
            Document(text=row[0], label=row[1], part=part)
            for part, name in files.items()
            for row in _rows(folder / name, "\t", columns=2, quoted=False)
        ]


@register("dataset")
class IMDB(TextSource):
    """Film reviews, negative or positive: a local ``imdb/*.csv`` with label, text, is_valid, or the hub's 50,000."""

    name: Literal["imdb"] = "imdb"
    length: int = Field(default=200, ge=1)
    classes: ClassVar[Mapping[str, str]] = {"negative": "negative", "positive": "positive"}
    licence_text: ClassVar[str] = "research use"
    citation_text: ClassVar[str] = "Maas et al. (2011), Learning Word Vectors for Sentiment Analysis, ACL"

    def documents(self) -> list[Document]:
        found = _local_table("imdb")
        if found is None:
            hub = _from_hub(
                "imdb",
                "stanfordnlp/imdb",
                {"train": "train", "test": "test"},
                text="text",
                wanted="imdb/imdb_sample.csv",
            )
            return [Document(text=d.text, label=("negative", "positive")[int(d.label)], part=d.part) for d in hub]
        return read_table(found, text="text", label="label", split="is_valid", parts={"False": "train", "True": "test"})

    def warnings(self) -> tuple[str, ...]:
        found = _local_table("imdb")
        return () if found is None else (f"the reviews of {found.name}, not the official 25,000 + 25,000",)


@register("dataset")
class TextFile(TextSource):
    """The user's own table of texts: a ``.csv`` or ``.tsv`` file with a heading."""

    name: Literal["text_file"] = "text_file"
    path: str
    text: str = "text"
    """Column of the texts."""
    label: str = "label"
    """Column of their classes; the classes are its values, sorted, unless ``class_names`` says them."""
    class_names: tuple[str, ...] = ()
    split: str | None = None
    """Column that says train, validation or test, where the texts come with a split."""
    group: str | None = None
    """Column of patients or authors, who never straddle a split; by default the one with a usual name (``patient_id``,
    ``subject`` …), and none if empty."""
    drop: tuple[str, ...] = ()
    """Columns that look like those of patients and are not."""
    encoding: str = "utf-8-sig"
    """By default UTF-8, with or without a byte-order mark."""
    licence: str = "unknown"
    citation: str = ""

    def documents(self) -> list[Document]:
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise DataError(f"text file {self.path!r} does not exist; give a .csv or .tsv file with a heading")
        found = read_table(
            path,
            text=self.text,
            label=self.label,
            split=self.split,
            group=self.group,
            dropped=self.drop,
            encoding=self.encoding,
        )
        if not found[0].group:
            return found
        patients = as_groups([document.group for document in found], where=repr(self.path), column="group")
        return [replace(document, group=str(patient)) for document, patient in zip(found, patients, strict=True)]

    def classes_of(self, documents: list[Document]) -> Mapping[str, str]:
        return {label: label for label in self.class_names or sorted({document.label for document in documents})}

    def known_as(self) -> str:
        return Path(self.path).stem

    def load(self) -> Dataset:
        return replace(super().load(), licence=self.licence, citation=self.citation)


def as_positions(sentences: Sequence[Sequence[str]], length: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Every word that occurs, padding first, and the sentences as positions among them, (n, longest) int32."""
    kept = [sentence[:length] for sentence in sentences]
    words = (PADDING, *sorted({word for sentence in kept for word in sentence}))
    place = {word: number for number, word in enumerate(words)}
    written = np.zeros((len(kept), max(len(sentence) for sentence in kept)), np.int32)
    for row, sentence in zip(written, kept, strict=True):
        row[: len(sentence)] = [place[word] for word in sentence]
    return words, written


def read_table(
    path: Path,
    *,
    text: str,
    label: str,
    split: str | None = None,
    group: str | None = None,
    dropped: Sequence[str] = (),
    parts: Mapping[str, str] | None = None,
    encoding: str = "utf-8-sig",
) -> list[Document]:
    """Texts of a table with a heading, tab-separated if it ends in ``.tsv``.

    Args:
        group: column of patients; see ``identifiers.group_column``.
        dropped: columns that are none of patients, whatever they are called.
        parts: what the values of the ``split`` column mean; by default they are ``PARTS`` themselves.

    Raises:
        DataError: names the column, the line or the byte that is wrong.
    """
    heading, *rows = list(_rows(path, "\t" if path.suffix == ".tsv" else ",", encoding=encoding)) or [[]]
    if not heading:
        raise DataError(f"{str(path)!r} is empty; its first row must name the columns, {text} and {label} among them")
    refuse_alike(heading, where=repr(str(path)), setting="path", what="columns")
    for column in (text, label, split, group or None):
        if column is not None and column not in heading:
            raise DataError(f"{str(path)!r} has no column {column!r}; it has {', '.join(heading)}")
    others = [column for column in heading if column not in (text, label, split)]
    if group != "":
        group = group_column(others, given=group, where=repr(str(path)), insisted=(text, label), dropped=dropped)
    if not rows:
        raise DataError(f"{str(path)!r} has a heading and no texts")
    meaning = {part: part for part in PARTS} if parts is None else parts
    found = []
    for number, row in enumerate(rows, start=2):
        if len(row) != len(heading):
            raise DataError(f"{str(path)!r}, row {number}: {len(row)} columns where the heading has {len(heading)}")
        held = dict(zip(heading, row, strict=True))
        if split is not None and held[split] not in meaning:
            raise DataError(
                f"{str(path)!r}, row {number}: split {held[split]!r} is unknown; allowed: {', '.join(meaning)}"
            )
        if group and not held[group].strip():
            raise DataError(f"{str(path)!r}, row {number}: {group} is empty; name the group of every text, or none")
        found.append(
            Document(
                text=held[text],
                label=held[label],
                part=meaning[held[split]] if split else "",
                group=held[group] if group else "",
            )
        )
    return found


def _rows(
    path: Path, separator: str, *, columns: int | None = None, quoted: bool = True, encoding: str = "utf-8-sig"
) -> Iterator[list[str]]:
    """Rows of a table, blank ones passed over."""
    if not path.is_file():
        raise DataError(f"{str(path)!r} does not exist; the data set needs it beside its other files")
    try:
        content = path.read_bytes().decode(encoding)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        known = "UTF-8" if encoding == "utf-8-sig" else encoding
        raise DataError(
            f"{str(path)!r}, line {line}: byte {error.object[error.start]:#04x} is no {known}; save the file as "
            "UTF-8, or say which encoding it is in (encoding: cp1252, say)"
        ) from None
    except LookupError:
        raise DataError(f"encoding {encoding!r} is unknown; use utf-8, cp1252, latin-1 …") from None
    quoting: Any = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    csv.field_size_limit(1 << 24)
    for number, row in enumerate(csv.reader(io.StringIO(content, newline=""), delimiter=separator, quoting=quoting), 1):
        if not row:
            continue
        if columns is not None and len(row) != columns:
            raise DataError(f"{str(path)!r}, line {number}: {len(row)} columns instead of {columns}")
        yield row


def _local_table(folder: str) -> Path | None:
    found = find(folder)
    return None if found is None else next(iter(sorted(found.glob("*.csv"))), None)


def _from_hub(dataset: str, repository: str, parts: Mapping[str, str], *, text: str, wanted: str) -> list[Document]:
    """Texts from the Hugging Face hub.

    Args:
        parts: the hub's name of each split, and ours.
        text: column of the texts.
        wanted: the local file that would have done, for the error.
    """
    from datasets import load_dataset

    try:
        found = load_dataset(repository)
        return [
            Document(text=row[text], label=str(row["label"]), part=ours)
            for theirs, ours in parts.items()
            for row in found[theirs]
        ]
    except Exception as error:  # whatever the hub or its library raises
        raise absent(
            dataset,
            wanted=wanted,
            obtain=f"the hub's {repository} could not be read ({type(error).__name__}): download it there, "
            f"once and online, with python -c \"import datasets; datasets.load_dataset('{repository}')\"",
        ) from None
