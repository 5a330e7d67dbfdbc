"""Where the ledgers of a study's data lie, and how a study finds again the ones that it has used."""

import json
import os
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from assay.data.base import Dataset
from assay.errors import LedgerError
from assay.ledger import Ledger
from assay.ledger.database import Collection, LedgerMark
from assay.ledger.patients import patient_hash
from assay.ledger.protocol import LedgerProtocol
from assay.store.folder import Store

LEDGER_VARIABLE = "ASSAY_LEDGER"
Opening = Callable[[Path, Collection, LedgerMark | None], LedgerProtocol]
"""Opens the ledger of a data set in a folder, or makes it, unless another one is known to have been used."""


def ledger_folder(results: str, given: str | None) -> Path | None:
    """Where ledgers are kept: as given, or where ``ASSAY_LEDGER`` says, or ``ledger`` beside the folder of the results.

    None where neither says anything and results go to a URI: SQLite needs a file system.
    """
    chosen = given or os.environ.get(LEDGER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().resolve()
    return None if "://" in results else Path(results).expanduser().resolve().parent / "ledger"


def open_ledger(dataset: Dataset, *, results: str, folder: Path, opening: Opening = Ledger.create) -> LedgerProtocol:
    """The ledger of a data set that a study uses; made if the study has never had one.

    Its mark is kept beside the results, which every machine sees. So another folder, or on a cluster another machine,
    never begins a second account that has forgotten what was spent.

    Raises:
        LedgerError: the ledger that the study has used is not there, with where it was; or it cannot be written.
    """
    store, collection = Store(results), collection_of(dataset)
    noted = f"ledgers/{collection.digest[:16]}.json"
    text = store.read_text(noted)
    known = LedgerMark(**json.loads(text)) if text else None
    ledger = opening(folder, collection, known)
    mark = ledger.mark()
    if mark == known:
        return ledger
    try:
        store.write_text(noted, json.dumps(asdict(mark)) + "\n")
    except OSError as error:
        # Where it lies now helps who looks for it; who may only read these results goes without.
        if known is None:
            raise LedgerError(
                f"results {results!r} cannot note which ledger they use, in {noted}: {error}; let us write there"
            ) from None
    return ledger


def collection_of(dataset: Dataset) -> Collection:
    """A data set as its ledger knows it: a sample of it has the same."""
    origin = dataset.origin
    patients, most = b"", 1
    if origin.groups is not None:
        known, place, counts = np.unique(origin.groups, return_inverse=True, return_counts=True)
        hashes = [patient_hash(dataset.name, one) for one in known]
        patients, most = zlib.compress(b"".join(hashes[one] for one in place)), int(counts.max())
    return Collection(
        digest=origin.digest,
        name=dataset.name,
        records=origin.records,
        licence=dataset.licence,
        patients=patients,
        most_of_a_patient=most,
    )


def location_of(results: str) -> str:
    """A folder or URI of results as ledgers note it."""
    return results if "://" in results else str(Path(results).expanduser().resolve())
