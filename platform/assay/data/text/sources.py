"""Sources of text: sentences as positions of words, from files and from the hub.

Splitting a sentence into words and numbering them learns nothing, so it is done once, here. What is learnt (the
vocabulary, and a vector for each word) is part of an embedding, which sees the training split only.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from assay.data.base import PARTS, Dataset, Source
from assay.data.classes import counted_classes, guessed_positive
from assay.data.delimited import decoded, first_lines, label_of, rows_of
from assay.data.locate import absent, find
from assay.data.text.tables import Columns, Document, DocumentTable, read_table
from assay.data.text.words import as_positions, is_word, without_spaces, words_of
from assay.errors import DataError
from assay.registry import choice_of, register


class TextSource(Source):
    """Base of all sources of text. Write ``table``."""

    length: int = Field(default=64, ge=1)
    """Number of words of a text that are used; the rest is cut off."""
    embedding: choice_of("embedding") = Field(default="learned")  # type: ignore[valid-type]
    """Embedding of words: ``learned``, ``word2vec`` or ``encoder``."""

    classes: ClassVar[Mapping[str, str]] = {}
    """Name of class by label, in order."""
    licence_text: ClassVar[str] = "unknown"
    citation_text: ClassVar[str] = ""

    def table(self) -> DocumentTable:
        """Reads every text of the data set.

        Returns:
            The texts, with messages about the reading.

        Raises:
            DataError: they are absent or unusable.
        """
        raise NotImplementedError

    def classes_of(self, documents: list[Document]) -> Mapping[str, str]:
        """Returns the name of the class of each label, in order.

        Args:
            documents: all texts.

        Returns:
            Name of class by label.
        """
        return self.classes

    def known_as(self) -> str:
        """Returns the name of the data set."""
        return self.name

    def owes(self) -> str:
        return self.embedding.owes()

    def load(self) -> Dataset:
        table = self.table()
        documents = table.documents
        names = dict(self.classes_of(documents))
        strange = next((document for document in documents if document.label not in names), None)
        if strange is not None:
            raise DataError(
                f"{self.known_as()}, {strange.where}: the label {strange.label!r} is outside the classes "
                f"{', '.join(names)}",
                setting="label",
                given=strange.label,
                allowed=list(names),
            )
        sentences = [words_of(document.text) for document in documents]
        empty = [document.where for document, sentence in zip(documents, sentences, strict=True) if not sentence]
        if empty:
            raise DataError(
                f"{self.known_as()}: {len(empty)} texts hold no word: {first_lines(empty)}; drop them", given=empty
            )
        words, written = as_positions(sentences, self.length)
        parts = np.array([document.part for document in documents])
        groups = np.array([document.group for document in documents])
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
            group_kind=table.group_kind,
            site=groups.astype(str) if table.group_kind == "site" else None,
            licence=self.licence_text,
            citation=self.citation_text,
            preprocessing=f"lower case, words and punctuation apart; longer texts cut to their first {self.length} "
            "words",
            official=parts if any(parts) else None,
            words=words,
            written=written,
            preparation=self.embedding,
            warnings=(*table.warnings, *_single(sentences)),
            reading=(*table.reading, *_told(documents, sentences, self.length)),
        )


@register("dataset")
class SST2(TextSource):
    """Sentences of film reviews, negative or positive: local sentence-level files, or GLUE's SST-2 from the hub.

    The local files are ``sst2/sentences_{train,dev,test}.tsv``. The hub's test labels are hidden, so its validation
    sentences are the test split, and validation sentences are drawn from training.
    """

    name: Literal["sst2"] = "sst2"
    classes: ClassVar[Mapping[str, str]] = {"0": "negative", "1": "positive"}
    licence_text: ClassVar[str] = "research use"
    citation_text: ClassVar[str] = (
        "Socher et al. (2013), Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank, EMNLP"
    )

    def table(self) -> DocumentTable:
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
        documents = [
            Document(text=row.fields[0], label=label_of(row.fields[1]), part=part, where=f"{name}, {row.where}")
            for part, name in files.items()
            for row in rows_of(folder / name, decoded(folder / name, "utf-8-sig"), "\t", quoted=False, columns=2)
        ]
        return DocumentTable(
            documents=documents, reading=(f"{len(documents):,} sentences of {', '.join(files.values())}",)
        )


@register("dataset")
class IMDB(TextSource):
    """Film reviews, negative or positive: a local ``imdb/*.csv`` with label, text, is_valid, or the hub's 50,000."""

    name: Literal["imdb"] = "imdb"
    length: int = Field(default=200, ge=1)
    classes: ClassVar[Mapping[str, str]] = {"negative": "negative", "positive": "positive"}
    licence_text: ClassVar[str] = "research use"
    citation_text: ClassVar[str] = "Maas et al. (2011), Learning Word Vectors for Sentiment Analysis, ACL"

    def table(self) -> DocumentTable:
        path = _local_table("imdb")
        if path is None:
            hub = _from_hub(
                "imdb",
                "stanfordnlp/imdb",
                {"train": "train", "test": "test"},
                text="text",
                wanted="imdb/imdb_sample.csv",
            )
            labelled = [replace(d, label=("negative", "positive")[int(d.label)]) for d in hub.documents]
            return replace(hub, documents=labelled)
        table = read_table(
            path, Columns(text="text", label="label", split="is_valid"), parts={"False": "train", "True": "test"}
        )
        warning = f"the reviews of {path.name}, not the official 25,000 + 25,000"
        return replace(table, warnings=(warning, *table.warnings))


@register("dataset")
class TextFile(TextSource):
    """The user's own table of texts: a ``.csv`` or ``.tsv`` file with a heading."""

    name: Literal["text_file"] = "text_file"
    path: str
    text: str = "text"
    """Column of the texts."""
    label: str = "label"
    """Column of their classes; the classes are its values, sorted, unless ``class_names`` names them."""
    class_names: tuple[str, ...] = ()
    split: str | None = None
    """Column with train, validation or test, where the texts come with a split; by default one named split."""
    group: str | None = None
    """Column of patients or authors, who are on one side of a split only; by default the one with a usual name
    (``patient_id``, ``subject`` …), and none if empty."""
    drop: tuple[str, ...] = ()
    """Columns that look like those of patients, or of a split, but are not."""
    encoding: str = "utf-8-sig"
    """By default UTF-8, with or without a byte-order mark."""
    quoted: bool | None = None
    """Whether quotation marks enclose a field that holds separators or line breaks; by default where commas or
    semicolons separate fields, and not where tabs do."""
    on_missing: Literal["fail", "skip"] = "fail"
    """Whether rows without a text or a label are an error, or are left out, counted and named."""
    licence: str = "unknown"
    citation: str = ""

    def table(self) -> DocumentTable:
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise DataError(
                f"text file {self.path!r} does not exist; give a .csv or .tsv file with a heading",
                setting="path",
                given=self.path,
            )
        return read_table(
            path,
            Columns(text=self.text, label=self.label, split=self.split, group=self.group, dropped=self.drop),
            classes=self._named(),
            encoding=self.encoding,
            quoted=self.quoted,
            on_missing=self.on_missing,
        )

    def _named(self) -> list[str]:
        return [label_of(name) for name in self.class_names]

    def classes_of(self, documents: list[Document]) -> Mapping[str, str]:
        return {label: label for label in self._named() or sorted({document.label for document in documents})}

    def known_as(self) -> str:
        return Path(self.path).stem

    def load(self) -> Dataset:
        data = super().load()
        guessed = () if self.class_names else guessed_positive(data.class_names, remedy="class_names: [OTHER, NAME]")
        return replace(
            data,
            licence=self.licence,
            citation=self.citation,
            warnings=(*data.warnings, *guessed),
            stated=(*data.stated, *guessed),
            reading=(*data.reading, f"label {self.label}: {counted_classes(data.class_names, data.y)}"),
        )


def _told(documents: Sequence[Document], sentences: Sequence[Sequence[str]], length: int) -> Iterator[str]:
    """Yields lines for the user on how texts were shortened and split into words."""
    cut = sum(len(sentence) > length for sentence in sentences)
    yield f"{cut} of {len(documents)} texts cut to their first {length} words"
    unspaced = sum(without_spaces(document.text) for document in documents)
    if unspaced:
        yield f"{unspaced:,} texts have characters of scripts without spaces: each of these is a word"


def _single(sentences: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Returns a warning if most texts are a single word: they are not sentences, or their words are not separated."""
    single = sum(sum(map(is_word, sentence)) <= 1 for sentence in sentences)
    if 2 * single <= len(sentences):
        return ()
    return (
        f"{single:,} of {len(sentences):,} texts are a single word: if they are sentences, write spaces between their "
        "words; if they are categories, read the file as the data set table",
    )


def _local_table(folder: str) -> Path | None:
    folder_found = find(folder)
    return None if folder_found is None else next(iter(sorted(folder_found.glob("*.csv"))), None)


def _from_hub(dataset: str, repository: str, parts: Mapping[str, str], *, text: str, wanted: str) -> DocumentTable:
    """Reads texts from the Hugging Face hub.

    Args:
        dataset: name of the data set, for errors.
        repository: on the hub.
        parts: our name of each split, by the hub's name.
        text: column of the texts.
        wanted: the local file that could have been used, for the error.
    """
    from datasets import load_dataset

    try:
        splits = load_dataset(repository)
        documents = [
            Document(text=row[text], label=str(row["label"]), part=ours, where=f"{theirs}, text {number}")
            for theirs, ours in parts.items()
            for number, row in enumerate(splits[theirs], start=1)
        ]
    except Exception as error:  # the hub or its library may raise anything
        raise absent(
            dataset,
            wanted=wanted,
            obtain=f"the hub's {repository} could not be read ({type(error).__name__}): download it there, "
            f"once and online, with python -c \"import datasets; datasets.load_dataset('{repository}')\"",
        ) from None
    return DocumentTable(documents=documents, reading=(f"{len(documents):,} texts of the hub's {repository}",))
