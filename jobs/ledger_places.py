"""Selection of ledgers for a command: those at a place, or the one of a data set."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.data.base import Dataset
    from assay.ledger.protocol import LedgerProtocol


def ledgers_at(place: str | None, data: str | None) -> list["LedgerProtocol"]:
    """Returns the ledgers at a place.

    Args:
        place: a folder of results, a folder of ledgers, or one file; None for ``results/ledger``.
        data: name of a data set; None for all.

    Returns:
        The ledgers.

    Raises:
        LedgerError: there is no such ledger.
    """
    from assay.cluster.ledger_actor import existing
    from assay.errors import LedgerError

    present = [existing(path) for path in _files(place)]
    named = [ledger for ledger in present if data in (None, ledger.name, ledger.path.stem)]
    if not named:
        raise LedgerError(f"no ledger of {data!r}; there are: {', '.join(ledger.path.stem for ledger in present)}")
    return named


def _files(place: str | None) -> list[Path]:
    """Returns the named ledger file, those of a folder, or those that a folder of results uses.

    Raises:
        LedgerError: there is none.
    """
    from assay.errors import LedgerError
    from assay.release.ledgers import LEDGER_VARIABLE, ledger_folder

    named = None if place is None or "://" in place else Path(place).expanduser().resolve()
    if named is not None and named.is_file():
        return [named]
    if place is None:
        used: Path | None = Path(os.environ.get(LEDGER_VARIABLE) or "results/ledger").expanduser().resolve()
    else:
        used = ledger_folder(place, None)
    for folder in (named, used):
        if folder is not None and (files := sorted(folder.glob("*.sqlite"))):
            return files
    raise LedgerError(
        f"there is no ledger in or beside {str(named or used or place)!r}; a study makes one when it runs. Name the "
        "folder of its results, or of its ledgers"
    )


def only_one(ledgers: list["LedgerProtocol"]) -> "LedgerProtocol":
    """Returns the only ledger of a list.

    Args:
        ledgers: the ledgers.

    Returns:
        The ledger.

    Raises:
        LedgerError: there are several.
    """
    from assay.errors import LedgerError

    if len(ledgers) != 1:
        names = ", ".join(ledger.path.stem for ledger in ledgers)
        raise LedgerError(f"there are {len(ledgers)} ledgers: {names}; name one with --data")
    return ledgers[0]


def ledger_of(dataset: "Dataset", results: str, given: str | None) -> "LedgerProtocol":
    """Opens the ledger of a data set; creates it if there is none.

    Args:
        dataset: the data set.
        results: location of the results.
        given: the option ``--ledger``.

    Returns:
        The ledger.

    Raises:
        LedgerError: there is no folder for it, or the ledger that was used before is missing.
    """
    from assay.cluster.ledger_actor import opening
    from assay.errors import LedgerError
    from assay.release.ledgers import ledger_folder, open_ledger

    folder = ledger_folder(results, given)
    if folder is None:
        raise LedgerError(f"results lie at {results}, and a ledger needs a folder: give --ledger or set ASSAY_LEDGER")
    return open_ledger(dataset, results=results, folder=folder, opening=opening())
