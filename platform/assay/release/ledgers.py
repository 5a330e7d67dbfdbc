"""Places of the ledgers of a study's data, and how a study finds its earlier ledgers again."""

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
"""Opens or creates the ledger of a data set in a folder; the mark, if any, names the ledger that was used before."""


def ledger_folder(results: str, given: str | None) -> Path | None:
    """Returns the folder of the ledgers.

    It is the given one, or that of ``ASSAY_LEDGER``, or ``ledger`` beside the folder of the results.

    Args:
        results: folder or URI of the results.
        given: the option ``--ledger``.

    Returns:
        The folder; None where none is named and results go to a URI, because SQLite needs a file system.
    """
    chosen = given or os.environ.get(LEDGER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().resolve()
    return None if "://" in results else Path(results).expanduser().resolve().parent / "ledger"


def open_ledger(dataset: Dataset, *, results: str, folder: Path, opening: Opening = Ledger.create) -> LedgerProtocol:
    """Opens the ledger of a data set; creates it if the study never had one.

    The mark of the ledger is stored beside the results, which every machine can read. So a study that runs with another
    folder, or on another machine of a cluster, does not start a second account that lacks the earlier charges.

    Args:
        dataset: the data set.
        results: folder or URI of the study's results.
        folder: of the ledgers.
        opening: function that opens a ledger.

    Returns:
        The ledger.

    Raises:
        LedgerError: the study's earlier ledger is missing (says where it was), or cannot be written.
    """
    store, collection = Store(results), collection_of(dataset)
    mark_file = f"ledgers/{collection.digest[:16]}.json"
    text = store.read_text(mark_file)
    known = LedgerMark(**json.loads(text)) if text else None
    ledger = opening(folder, collection, known)
    mark = ledger.mark()
    if mark == known:
        return ledger
    try:
        store.write_text(mark_file, json.dumps(asdict(mark)) + "\n")
    except OSError as error:
        # Readers without write access to the results may continue with the old mark.
        if known is None:
            raise LedgerError(
                f"results {results!r} cannot note which ledger they use, in {mark_file}: {error}; let us write there"
            ) from None
    return ledger


def collection_of(dataset: Dataset) -> Collection:
    """Returns the description of a data set for its ledger; a sample has that of the whole data set.

    Args:
        dataset: the data set.

    Returns:
        The description.
    """
    origin = dataset.origin
    patients, most = b"", 1
    if origin.groups is not None:
        ids, place, counts = np.unique(origin.groups, return_inverse=True, return_counts=True)
        hashes = [patient_hash(dataset.name, patient) for patient in ids]
        patients, most = zlib.compress(b"".join(hashes[number] for number in place)), int(counts.max())
    return Collection(
        digest=origin.digest,
        name=dataset.name,
        records=origin.records,
        licence=dataset.licence,
        patients=patients,
        most_of_a_patient=most,
    )


def location_of(results: str) -> str:
    """Returns a folder or URI of results in the form that ledgers store.

    Args:
        results: folder or URI.

    Returns:
        Absolute path or URI.
    """
    return results if "://" in results else str(Path(results).expanduser().resolve())
