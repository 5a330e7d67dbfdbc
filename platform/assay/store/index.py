"""The index over the trials of one folder: all their rows in one file, and one row of columns for each trial.

The Parquet files are the truth. ``index/trials.log`` contains their rows again, appended by the job that writes
results, so that no page opens every file. ``index/columns.log`` contains columns of the trials, which are mapped into
memory and not read: 100,000 trials open in less than a second (``python -m jobs.benchmark index``). Both can be deleted
and are then made again. Files that were written, moved or deleted without the index are recognised by size and time, in
one listing.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from assay.store.columns import COLUMNS, Place, about_of, columns_of
from assay.store.files import Files, Stamp
from assay.store.log import Log

_PLACE = b"place"
_LOG, _COLUMNS = "index/trials.log", "index/columns.log"
FOLDERS = ("trials", "superseded")
_READING = 2
"""Version of the rules by which rows of earlier versions are read (``assay.store.earlier``). Raised with each change of
them: an index holds rows as they were read, and one of other rules is made again."""
_FEW = 512
"""Greatest number of entries of the log that are read one by one when the index is opened, unless there are many
trials."""


class Offset(NamedTuple):
    """Position up to which a log was read."""

    log: str
    end: int


class Changes(NamedTuple):
    """Trials that were written, moved or deleted since an earlier look."""

    whole: bool
    """Whether these are all trials, and what was known before is void."""
    columns: pa.Table
    """``COLUMNS`` of the trials that came or changed."""
    gone: list[Place]


Load = Callable[[str, str], pa.Table]
"""Loads the rows of a trial with the metadata of its file, given its folder and id."""


class Index:
    """Rows and columns of all trials of one folder, as they were at the last ``refresh``.

    Args:
        files: of the folder. In an object store nothing can be appended, so each file is read.
        load: reads the results file of a trial.
        layout: columns of the rows; an index with other columns is made again.
    """

    def __init__(self, files: Files, load: Load, layout: pa.Schema) -> None:
        self._files, self._load = files, load
        digest = hashlib.sha256(f"{layout}{COLUMNS}{_READING}".encode()).digest()[:8]
        self._log = Log(Path(files.path(_LOG)), digest) if files.local else None
        self._columns = Log(Path(files.path(_COLUMNS)), digest)
        self._forget()

    def _forget(self) -> None:
        self._log_name, self._end, self._entries = b"", 0, 0
        self._base = COLUMNS.empty_table()
        """Columns as they were written last."""
        self._later: dict[Place, dict[str, Any] | None] = {}
        """Columns of the trials that came or changed since; None of those that are gone."""
        self._stamps: dict[Place, Stamp] = {}
        """Of all trials there are."""
        self._offsets: dict[Place, int] = {}
        """Where the log has their rows."""
        self._loaded: dict[Place, pa.Table] = {}
        """Rows that the log does not have."""
        self._unlogged: set[Place] = set()
        """Trials of which the log does not know how they are, or that they are gone."""
        self._news: dict[Place, None] | None = None
        """Trials that came, changed or went since ``changes`` was called; None before its first call."""

    def refresh(self) -> None:
        """Reads entries that were appended since, and the files whose present state is not in the log."""
        self._follow()
        listed = {(folder, trial): stamp for folder in FOLDERS for trial, stamp in self._files.stamps(folder).items()}
        if listed == self._stamps:
            return
        for place in sorted(self._stamps.keys() - listed.keys()):
            self._drop(place)
            self._unlogged.add(place)
        for place, stamp in sorted(listed.items() - self._stamps.items()):
            self._take(place, stamp, self._load(*place))

    def add(self, place: Place, table: pa.Table) -> None:
        """Adds a trial that was just written, and appends it to the log. Only for the one job that writes results.

        Args:
            place: folder and id of the trial.
            table: its rows, with the metadata of the file.
        """
        self._take(place, self._files.stamp(f"{place[0]}/{place[1]}.parquet"), table)
        self.save()

    def save(self) -> None:
        """Appends to the log what it does not contain.

        The log is written again where a trial was deleted, because nothing of it may remain, and where a killed job
        left a torn entry.

        Only for the one job that writes results.
        """
        if self._log is None or (not self._unlogged and self._log_name):
            return
        gone = [trial for folder, trial in self._unlogged if (folder, trial) not in self._stamps]
        deleted = any(all((folder, trial) not in self._stamps for folder in FOLDERS) for trial in gone)
        torn = self._log.size != self._end
        if deleted or torn or not self._log_name or self._entries > 2 * len(self._stamps) + _FEW:
            self.rewrite()
            return
        contents = [self._content(place) for place in sorted(self._unlogged)]
        self._log.append(contents)
        self._follow()
        if len(self._later) > max(_FEW, self._base.num_rows // 4):
            self.write_columns()

    def rewrite(self) -> None:
        """Writes the log again from the present trials. Only for the one job that writes results."""
        if self._log is not None:
            self._log.rewrite(self._content(place) for place in sorted(self._stamps))
            self._follow()
            self.write_columns()

    def write_columns(self) -> None:
        """Writes the columns of all trials, for the next process that opens this folder."""
        if self._log is None or not self._log_name or not self._later:
            return
        table = self._gathered()
        facts = {"log": self._log_name.hex(), "end": self._end, "entries": self._entries}
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, COLUMNS.with_metadata({_PLACE: json.dumps(facts)})) as writer:
            writer.write_table(table)
        self._log.sync()
        self._columns.rewrite([sink.getvalue()])
        self._base, self._later = table, {}

    def erase(self) -> None:
        """Deletes both files of the index; ``rewrite`` makes them again."""
        self._files.delete(_COLUMNS)
        self._files.delete(_LOG)
        self._forget()

    def trials(self, folder: str) -> list[str]:
        """Returns the ids of the trials in a folder.

        Args:
            folder: ``trials`` or ``superseded``.

        Returns:
            The ids, sorted.
        """
        return sorted(trial for place, trial in self._stamps if place == folder)

    def columns(self) -> pa.Table:
        """Returns ``COLUMNS`` of all trials, including superseded ones.

        Returns:
            One row for each trial.
        """
        if not self._later:
            return self._base
        places = zip(self._base["folder"].to_pylist(), self._base["trial"].to_pylist(), strict=True)
        kept = self._base.filter(pa.array([place not in self._later for place in places], pa.bool_()))
        rows = [row for row in self._later.values() if row is not None]
        return pa.concat_tables([kept, pa.Table.from_pylist(rows, schema=COLUMNS)])

    def rows(self, folder: str, trial: str) -> pa.Table:
        """Returns the rows of a trial, with the metadata of its file.

        Args:
            folder: of the trial.
            trial: its id.

        Returns:
            The rows.
        """
        place = folder, trial
        if place in self._loaded:
            return self._loaded[place]
        content = None if self._log is None else self._log.content(self._offsets[place])
        # Where the log is damaged, the results file is read.
        return self._load(folder, trial) if content is None else pa.ipc.open_stream(content).read_all()

    def about(self, folder: str, trial: str) -> dict[str, Any]:
        """Returns the metadata of a trial: its settings, and where it ran.

        Args:
            folder: of the trial.
            trial: its id.

        Returns:
            Values by name.
        """
        return about_of(self.rows(folder, trial))

    def tail(self, since: Offset | None) -> tuple[list[Place], Offset]:
        """Returns the trials that were written, moved or deleted since an offset.

        Args:
            since: as it was returned before. None, or an offset of a log that was written again since, gives all
                trials.

        Returns:
            Folder and id of each trial, and the present offset.
        """
        self.refresh()
        now = Offset(log=self._log_name.hex(), end=self._end)
        if self._log is None or since is None or since.log != now.log:
            return sorted(self._stamps), now
        places = [_place_of(content)[0] for _, _, content in self._log.entries(since.end)]
        return list(dict.fromkeys([*places, *sorted(self._unlogged)])), now

    def changes(self, *, listed: bool = True) -> Changes:
        """Returns the trials that were written, moved or deleted since the last call.

        Only for a process that reads, and that holds what it was told: the columns themselves are let go here.

        Args:
            listed: whether to list the files too. Without it the log alone is read, which takes no longer where there
                are many trials; what was done without the index stays unknown until the next call that lists.

        Returns:
            All trials at the first call, and after the log was written again.
        """
        if listed or not self._log_name:
            self.refresh()
        else:
            self._follow()
        news, self._news = self._news, {}
        if news is None:
            found = Changes(whole=True, columns=self.columns(), gone=[])
        else:
            rows = [row for place in news if (row := self._later.get(place)) is not None]
            gone = [place for place in news if place not in self._stamps]
            found = Changes(whole=False, columns=pa.Table.from_pylist(rows, schema=COLUMNS), gone=gone)
        self._base, self._later = COLUMNS.empty_table(), {}
        self._columns.close()
        return found

    def _gathered(self) -> pa.Table:
        """Returns the columns of all trials in one piece, as a file of Arrow needs them."""
        return self.columns().unify_dictionaries().combine_chunks()

    def _follow(self) -> None:
        """Reads the log from where it was last read."""
        log = self._log
        if log is None or not log.reopen():
            return
        if log.name != self._log_name:
            self._forget()
            self._log_name, self._end = log.name, log.start
            self._take_columns()
        for offset, end, content in log.entries(self._end):
            place, stamp = _place_of(content)
            if stamp is None:
                self._drop(place)
            else:
                self._take(place, stamp, pa.ipc.open_stream(content).read_all(), offset=offset)
            self._unlogged.discard(place)
            self._end, self._entries = end, self._entries + 1

    def _take_columns(self) -> None:
        """Maps the columns that were written for this log; without any, the log is read from its start."""
        content = self._columns.content(self._columns.start) if self._columns.reopen() else None
        if content is None:
            return
        reader = pa.ipc.open_file(content)
        facts = json.loads(reader.schema.metadata[_PLACE])
        if facts["log"] != self._log_name.hex():
            return
        self._base = reader.read_all().replace_schema_metadata(None)
        self._end, self._entries = facts["end"], facts["entries"]
        folders, trials, sizes, times, offsets = (
            self._base[name].to_pylist() for name in ("folder", "trial", "size", "modified", "offset")
        )
        places = list(zip(map(sys.intern, folders), trials, strict=True))
        self._stamps = dict(zip(places, zip(sizes, times, strict=True), strict=True))
        self._offsets = dict(zip(places, offsets, strict=True))

    def _take(self, place: Place, stamp: Stamp, table: pa.Table, *, offset: int = -1) -> None:
        """Adds a trial with its stamp and rows; ``offset`` is their place in the log, −1 if they are not in it."""
        self._later[place] = columns_of(place, stamp, table, offset)
        self._note(place)
        self._stamps[place] = stamp
        if offset < 0:
            self._loaded[place] = table
            self._unlogged.add(place)
        else:
            self._loaded.pop(place, None)
            self._offsets[place] = offset

    def _drop(self, place: Place) -> None:
        for by_place in (self._stamps, self._offsets, self._loaded):
            by_place.pop(place, None)
        self._later[place] = None
        self._note(place)

    def _note(self, place: Place) -> None:
        if self._news is not None:
            self._news[place] = None

    def _content(self, place: Place) -> bytes:
        """Returns an entry of the log: the rows of a trial, or that it is gone."""
        stamp = self._stamps.get(place)
        table = pa.table({}) if stamp is None else self.rows(*place)
        metadata = {**(table.schema.metadata or {}), _PLACE: json.dumps([*place, stamp])}
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema.with_metadata(metadata)) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())


def _place_of(content: pa.Buffer) -> tuple[Place, Stamp | None]:
    """Returns the trial of an entry, and the stamp of its file; None if the file is gone."""
    folder, trial, stamp = json.loads(pa.ipc.read_schema(content).metadata[_PLACE])
    return (folder, trial), None if stamp is None else (stamp[0], stamp[1])
