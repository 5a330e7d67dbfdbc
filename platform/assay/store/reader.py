"""Reads one folder of results for pages of many trials: columns as they come, the rows of one trial, the progress.

It imports neither PyTorch nor pandas, so that a page over many folders takes little memory, and it writes nothing.
"""

from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from assay.store.columns import Place, about_of
from assay.store.earlier import is_earlier
from assay.store.files import Files
from assay.store.index import Changes, Index
from assay.store.progress import FILE, Progress
from assay.store.rows import MEASUREMENT_SCHEMA, of_earlier_version


class StoredFile(NamedTuple):
    """A file of a trial: its name within the folder, and its size in bytes."""

    name: str
    bytes: int


class Reader:
    """One folder of results, only to be read.

    Args:
        location: a folder, or a URI such as ``s3://bucket/folder``.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._files = Files(location)
        self._index = Index(self._files, partial(load_rows, self._files), MEASUREMENT_SCHEMA)

    def changes(self, *, listed: bool) -> Changes:
        """Returns the trials that came, changed or went since the last call; see ``Index.changes``.

        Args:
            listed: whether to list the files too.

        Returns:
            All trials at the first call.
        """
        return self._index.changes(listed=listed)

    def rows(self, place: Place) -> pa.Table:
        """Returns the rows of a trial, with the metadata of its file.

        Args:
            place: folder and id of the trial.

        Returns:
            The columns ``MEASUREMENT_SCHEMA``.
        """
        return self._index.rows(*place)

    def progress(self) -> Progress | None:
        """Returns how far the job is that writes this folder.

        Returns:
            None where no job has told its progress.
        """
        return Progress.from_text(self.read_text(FILE))

    def read_text(self, name: str) -> str:
        """Reads a text file of the folder.

        Args:
            name: of the file.

        Returns:
            Its content; empty if there is no such file.
        """
        return self._files.read_text(name)

    def exists(self, name: str) -> bool:
        """Returns whether a file exists.

        Args:
            name: within the folder.

        Returns:
            True if it does.
        """
        return self._files.exists(name)

    def files_of(self, place: Place, training: str) -> list[StoredFile]:
        """Returns the files of a trial that exist: its results, its model, and the results of each evaluation.

        Args:
            place: folder and id of the trial.
            training: key of its model.

        Returns:
            Names within the folder, with sizes.
        """
        names = ["/".join(place) + ".parquet"]
        names += [f"{folder}/{training}.safetensors" for folder in ("artefacts", "checkpoints")]
        names += [f"answers/{training}/{name}.parquet" for name in sorted(self._files.names(f"answers/{training}"))]
        return [StoredFile(name, self._files.stamp(name)[0]) for name in names if self._files.exists(name)]


def load_rows(files: Files, folder: str, trial: str) -> pa.Table:
    """Reads the results file of a trial.

    Args:
        files: of the folder of results.
        folder: ``trials`` or ``superseded``.
        trial: its id.

    Returns:
        The columns ``MEASUREMENT_SCHEMA``, whatever version wrote the file, with its metadata.

    Raises:
        StorageError: the file is damaged, or is not a file of Assay; names it.
    """
    with files.opened(f"{folder}/{trial}.parquet") as file:
        table = pq.read_table(file)
        about_of(table)
    if is_earlier(table):
        return of_earlier_version(table)
    if "outcomes" not in table.column_names:
        return table.append_column(MEASUREMENT_SCHEMA.field("outcomes"), pa.nulls(len(table), pa.binary()))
    return table


def settings_asked(table: pa.Table) -> dict[str, Any]:
    """Returns the settings of a trial, from the metadata of its rows.

    Args:
        table: the rows of a trial.

    Returns:
        Recipe, model, split and evaluations as plain values; empty for a trial of an early version.
    """
    return dict(about_of(table).get("asked", {}))
