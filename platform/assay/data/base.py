"""The data set, and the protocol of a source of data sets."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import torch

from assay.data.checks import check_dataset
from assay.data.features import Feature
from assay.data.fingerprints import Fingerprints
from assay.data.identifiers import GroupKind
from assay.data.intended_use import IntendedUse
from assay.errors import DataError
from assay.recipes import Federation
from assay.registry import Method, unknown
from assay.threats import Bounds

if TYPE_CHECKING:
    from assay.data.images.files import Decoder

Modality = Literal["tabular", "image", "signal", "text"]
PARTS = ("train", "validation", "test")
"""Parts of an official split."""
_SPELLINGS = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "dev": "validation", "test": "test", "testing": "test",
}  # fmt: skip


def part_of_split(written: str) -> str | None:
    """Returns the part that a column of a split means by ``Train`` or ``val``; None if it means none.

    Args:
        written: value of the column; case and outer blanks do not matter.

    Returns:
        One of ``PARTS``, or None.
    """
    return _SPELLINGS.get(written.strip().casefold())


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Published mean and standard deviation of each channel: the first layer of every network on these data."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


class Lazy(Protocol):
    """Records that are decoded on access. They are returned as float32 arrays, like records in memory."""

    shape: tuple[int, ...]
    dtype: np.dtype
    ndim: int

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Returns records (len(rows), ...) at integer positions or a slice."""
        ...

    def fingerprint(self) -> str:
        """Returns a text that identifies these records without decoding them: names and sizes of files."""
        ...


class Preparation(Protocol):
    """Preprocessing that is learnt from the training split, such as a vocabulary or word vectors."""

    def fit(self, dataset: "Dataset", train: np.ndarray, *, seed: int) -> "Dataset":
        """Learns from the training split and returns the prepared data set.

        Args:
            dataset: before preparation.
            train: positions of the training records; nothing is learnt from any other.
            seed: of whatever is drawn at random.

        Returns:
            The same records in the same order, as the network takes them.
        """
        ...

    def describe(self) -> str:
        """Returns all settings as text, for the hash that names a trial."""
        ...

    def owes(self) -> str:
        """Returns what is learnt from records without a charge of ε, and how to avoid it; empty if nothing is."""
        ...

    def pools(self, federation: Federation) -> str:
        """Returns what the clients of a federation cannot learn without pooling records, and how to avoid it.

        Args:
            federation: which says whose records a client holds.

        Returns:
            A text; empty if each client can prepare its records alone, or by sums over clients.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Vocabulary of records that are positions in it; the network's first layer turns each position into a vector.

    Position 0 is padding, whose vector is 0; position 1 stands for every word that is not in the vocabulary.
    """

    words: tuple[str, ...]
    vectors: np.ndarray
    """(words, dimension) float32: initial weights of the first layer."""
    trainable: bool
    """Whether training changes the vectors."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """Shape, classes and preprocessing of the records that a network is built for."""

    shape: tuple[int, ...]
    """Shape of one record, as it is stored."""
    classes: int
    modality: Modality = "tabular"
    normalisation: Normalisation | None = None
    tokens: Tokens | None = None

    @property
    def network_shape(self) -> tuple[int, ...]:
        """Shape of one record after the first layer; for text, one vector a word."""
        return self.shape if self.tokens is None else (*self.shape, self.tokens.vectors.shape[1])


class Language(Protocol):
    """Converts sentences to records of a prepared text data set."""

    def encode(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        """Returns the records of sentences.

        Args:
            sentences: each a list of words.

        Returns:
            (n, ...) records.
        """
        ...

    def pieces(self, sentence: Sequence[str]) -> list[str]:
        """Returns the word or word piece at each position of a sentence's record, without padding.

        Args:
            sentence: a list of words.

        Returns:
            One text for each position.
        """
        ...

    def words_read(self, sentence: Sequence[str]) -> int:
        """Returns how many of the words of a sentence its record holds, from the first one on.

        Args:
            sentence: a list of words.
        """
        ...

    def words_unknown(self, sentence: Sequence[str]) -> int:
        """Returns how many of the words have no code of their own.

        Args:
            sentence: a list of words.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class SourceDataset:
    """The whole data set from which another one takes its records, all or some of them."""

    digest: str
    """Its ``Dataset.identity``: names the ledger of these patients."""
    records: int
    groups: np.ndarray | None
    """(records,) as ``Dataset.patients``."""
    places: np.ndarray
    """(n,) position of each record of the other data set in this one."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Records with labels, bounds, names, groups and everything else that a fair evaluation needs.

    Raises:
        DataError: the arrays disagree, hold NaN or infinity, or cannot be classified.
    """

    name: str
    x: np.ndarray | Lazy
    """(n, ...) float32, in ``units``; of text (n, length) int32, positions in ``words`` or in ``tokens``."""
    y: np.ndarray
    """(n,) int64 in 0 … classes - 1; with two classes, 1 is the one to detect."""
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    low: np.ndarray
    """Least valid value of each input; broadcasts to one record."""
    high: np.ndarray
    """Greatest valid value of each input; broadcasts to one record."""
    units: str
    """Meaning of 1.0 of an input: the unit of every ε on these data."""
    epsilons: tuple[float, ...]
    """Radii (L∞), in ``units``, at which robustness is evaluated by default."""
    immutable: np.ndarray | None = None
    """(features,) bool: inputs that an attack cannot change; None where all can be changed."""
    groups: np.ndarray | None = None
    """(n,) the patient or centre of each record; a group is never divided by a split."""
    group_kind: GroupKind = "patient"
    """Whether ``groups`` are patients, whom privacy and membership protect, or sites, which are only kept whole by
    splits."""
    site: np.ndarray | None = None
    """(n,) the hospital of each record, as text, empty where it is unknown; None if no record's is known. Splits keep
    sites whole only if they are the ``groups``. A federation may make each site a client."""
    subgroups: Mapping[str, np.ndarray] = field(default_factory=dict)
    """(n,) the subgroup of each record by the name of an attribute, such as sex or site; empty where it is unknown."""
    licence: str = "unknown"
    citation: str = ""
    preprocessing: str = "none"
    """Preprocessing of the records, and the source of its figures."""
    unpaid_preprocessing: bool = False
    """True if a figure used in preprocessing was learned from these records and no ε was charged for it."""
    remedy: str = "use public figures and bounds, and say public_preprocessing: true"
    """How to avoid unpaid preprocessing."""
    warnings: tuple[str, ...] = field(default=())
    stated: tuple[str, ...] = ()
    """Those of the warnings that follow from settings and published facts. All others were counted on records: no ε is
    charged for them, so they are not shown with a private model."""
    reading: tuple[str, ...] = ()
    """Lines for the user on what was read: numbers of rows or files, how many were left out, and why."""
    modality: Modality = "tabular"
    """Kind of a record: (features,), (channels, height, width), (channels, samples) or (words,)."""
    official: np.ndarray | None = None
    """(n,) one of ``PARTS`` for each record, where the data set has an official split."""
    normalisation: Normalisation | None = None
    words: tuple[str, ...] = ()
    """Every word that occurs in texts, in any split; position 0 is padding. Numbering words learns nothing from them.
    """
    preparation: Preparation | None = None
    """What must still be learnt from a training split before a network can take the records."""
    tokens: Tokens | None = None
    """Set by a preparation that turns words into positions in a vocabulary."""
    language: Language | None = None
    """Set by a preparation of text: converts other sentences to records."""
    written: np.ndarray | None = None
    """(n, length) int32, positions in ``words``: the text itself, kept if a preparation has replaced ``x``."""
    features: tuple[Feature, ...] = ()
    """Column, kind and scale of each input of a prepared table, in the column's own unit."""
    decoder: "Decoder | None" = None
    """Converts an image file to a record as those of the data set were converted; None where this is unknown."""
    rate: float | None = None
    """Samples of a signal a second; None where it is unknown."""
    intended_use: IntendedUse | None = None
    """Whom the records are of; None where it is not stated."""
    part_of: SourceDataset | None = None
    """The data set from which these records were taken; None for a whole one."""

    def __post_init__(self) -> None:
        check_dataset(self, parts=PARTS)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one record."""
        return tuple(self.x.shape[1:])

    @property
    def patients(self) -> np.ndarray | None:
        """(n,) the patient of each record; None where the data name no patients, though sites may be known."""
        return self.groups if self.group_kind == "patient" else None

    @property
    def form(self) -> Form:
        return Form(
            shape=self.shape,
            classes=self.classes,
            modality=self.modality,
            normalisation=self.normalisation,
            tokens=self.tokens,
        )

    def prepared(self, train: np.ndarray, *, seed: int) -> "Dataset":
        """Returns the data set as a network takes it.

        Args:
            train: positions of the training records; preprocessing learns from these alone.
            seed: of whatever is drawn at random.

        Returns:
            The prepared data set; this one if it needs no preparation.
        """
        return self if self.preparation is None else self.preparation.fit(self, train, seed=seed)

    @property
    def owes(self) -> str:
        """Why no ε can be claimed on these data, prepared or not, and how to avoid it; empty if one can."""
        if self.unpaid_preprocessing:
            return f"the data were preprocessed with figures learned from them; {self.remedy}"
        return "" if self.preparation is None else self.preparation.owes()

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def bounds(self) -> Bounds:
        return Bounds(
            low=torch.from_numpy(self.low),
            high=torch.from_numpy(self.high),
            padding=self.modality == "text",
            fixed=None if self.immutable is None else torch.from_numpy(self.immutable),
        )

    def with_immutable(self, names: Sequence[str]) -> "Dataset":
        """Returns the same records, with the named features marked as immutable.

        Args:
            names: features that an attack cannot change, in addition to those that are marked already.

        Returns:
            A data set of the same records; this one if no name is given.

        Raises:
            DataError: there is no such feature, or none is left that can be changed.
        """
        if not names:
            return self
        if self.x.ndim != 2 or not self.feature_names:
            raise DataError(f"{self.name}: its inputs have no names, so none can be immutable; leave immutable out")
        for name in names:
            if name not in self.feature_names:
                raise DataError(f"{self.name}: {unknown('feature', name, list(self.feature_names))}")
        immutable = np.isin(self.feature_names, names) | (False if self.immutable is None else self.immutable)
        if immutable.all():
            raise DataError(f"{self.name}: every feature is immutable, so there is nothing to attack; name fewer")
        return replace(self, immutable=immutable, part_of=self.origin)

    @property
    def origin(self) -> SourceDataset:
        """The whole data set of these patients. A sample of it, or other rules for it, keep the same origin."""
        everyone = np.arange(len(self))
        return self.part_of or SourceDataset(
            digest=self.identity, records=len(self), groups=self.patients, places=everyone
        )

    @property
    def for_others(self) -> "Dataset":
        """The same records, without warnings and lines that were counted on them."""
        return replace(self, warnings=tuple(one for one in self.warnings if one in self.stated), reading=())

    @property
    def about(self) -> dict[str, Any]:
        """Facts about the data that every result carries; JSON-able."""
        return {
            "name": self.name,
            "identity": self.origin.digest,
            "records": len(self),
            "modality": self.modality,
            "licence": self.licence,
            "citation": self.citation,
            "warnings": list(self.warnings),
            "reading": list(self.reading),
        }

    @cached_property
    def identity(self) -> str:
        """SHA-256 of records, labels and patients only; names and settings do not change it."""
        sha = hashlib.sha256()
        sha.update("\n".join(self.words).encode())
        sha.update(b"" if isinstance(self.x, np.ndarray) else self.x.fingerprint().encode())
        _hash_arrays(sha, self.x if isinstance(self.x, np.ndarray) else None, self.y, self.groups)
        return sha.hexdigest()

    @cached_property
    def fingerprints(self) -> Fingerprints:
        """Hashes of single records, for finding copies."""
        return Fingerprints(self.x)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the records and of names, units, bounds, split and preprocessing; the same from any path."""
        names = (self.class_names, self.feature_names, self.units, self.epsilons, self.unpaid_preprocessing)
        preprocessing: tuple[Any, ...] = (
            self.modality,
            self.normalisation,
            "" if self.preparation is None else self.preparation.describe(),
            *(() if self.group_kind == "patient" else (self.group_kind,)),
            *self._sites,
        )
        sha = hashlib.sha256(repr((self.identity, *names, self.preprocessing, self.warnings, *preprocessing)).encode())
        _hash_arrays(sha, self.low, self.high, self.official, self.immutable)
        return sha.hexdigest()

    @cached_property
    def training_digest(self) -> str:
        """SHA-256 of all that trained weights depend on; names, units, radii, warnings and subgroups are left out."""
        preparation = "" if self.preparation is None else self.preparation.describe()
        facts = (
            self.identity,
            self.classes,
            self.modality,
            self.normalisation,
            preparation,
            self.group_kind,
            *self._sites,
        )
        sha = hashlib.sha256(repr(facts).encode())
        _hash_arrays(sha, self.low, self.high, self.official, self.immutable)
        return sha.hexdigest()

    @property
    def _sites(self) -> tuple[str, ...]:
        """The site of each record, for a hash; nothing where none is known, so that such data keep their names."""
        return () if self.site is None else tuple(self.site.tolist())

    @cached_property
    def evaluation_digest(self) -> str:
        """SHA-256 of all that results of an evaluation depend on: ``digest`` and the subgroups."""
        sha = hashlib.sha256(self.digest.encode())
        for name in sorted(self.subgroups):
            sha.update("\n".join((name, *self.subgroups[name].tolist())).encode())
        return sha.hexdigest()


def _hash_arrays(sha: "hashlib._Hash", *arrays: np.ndarray | None) -> None:
    for array in arrays:
        sha.update(b"none" if array is None else f"{array.dtype}{array.shape}".encode())
        sha.update(b"" if array is None else np.ascontiguousarray(array).tobytes())


class Source(Method):
    """Configuration that loads a data set. Register it with ``@register("dataset")`` and write ``load``."""

    records: ClassVar[int | None] = None
    """Number of records where it is known without loading, so that a dry run can calibrate noise. Set it only for data
    without patients: privacy would protect patients, and their number is known only after loading."""
    official_train: ClassVar[int | None] = None
    """Number of training records of the official split, where there is one and the number is known without loading."""

    def owes(self) -> str:
        """Returns why no ε can be claimed on these data, as far as the settings tell; empty if they do not."""
        return ""

    def load(self) -> Dataset:
        """Reads the data.

        Returns:
            The data set.

        Raises:
            DataError: they are absent or unusable; the message says what to do.
        """
        raise NotImplementedError
