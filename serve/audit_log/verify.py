"""Verification of a decision log: every line that was changed, removed, added or moved, by file and line.

Hashes show that lines agree with one another, and anyone can make such lines. Signatures, by the keys of the log, show
that a process of the service wrote the lines up to the signed one. What follows the last signature is counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serve.audit_log import files as f
from serve.audit_log.keys import Keys
from serve.audit_log.lines import FIRST, decode, hash_of
from serve.audit_log.retention import deletion


@dataclass(frozen=True)
class Fault:
    """Something that no process of the service did."""

    file: str
    line: int
    """From 1; 0 where it concerns the file as a whole."""
    what: str

    def __str__(self) -> str:
        return f"{self.file}{f', line {self.line}' if self.line else ''}: {self.what}"


@dataclass(kw_only=True)
class ChainReport:
    """What verification found in one chain."""

    writer: str
    files: int = 0
    lines: int = 0
    answers: int = 0
    first: int = 0
    last: int = 0
    """Sequence numbers of the first and the last line."""
    head: str = FIRST
    """Hash of the last line."""
    signed: bool = True
    """Whether signatures were compared; else there is no file of keys, and the end may have been cut or written anew.
    """
    unsigned: int = 0
    """Lines after the last signature, or that a process which died left without one: whoever can write the files could
    have added them."""
    torn: list[str] = field(default_factory=list)
    """Files whose last line a crash cut."""
    faults: list[Fault] = field(default_factory=list)


@dataclass(kw_only=True)
class _Vouched:
    """What was said elsewhere about a line: in a head, in a later file, or by another writer."""

    sequence: int
    hash: str
    file: str
    line: int


def verify(folder: Path, *, head: str = "") -> list[ChainReport]:
    """Verifies all chains of a log.

    Args:
        folder: of the log.
        head: hash of a line that must be in the log, kept from an earlier verification in another place.

    Returns:
        One report a chain; the log is sound where none has faults.

    Raises:
        UserError: there is no log.
        StorageError: the keys cannot be read, or others can read them.
    """
    files = f.files_of(folder)
    writers = sorted({*files, *(path.stem for path in folder.glob("*.head"))})
    if not writers:
        raise f.no_log(folder)
    keys = Keys.of(folder)
    vouched = _vouched(folder, files)
    reports, known = [], not head
    for writer in sorted({*writers, *vouched}):
        chain = _Verification(folder, writer, keys, vouched.get(writer, []), head)
        reports.append(chain.run(files.get(writer, [])))
        known |= chain.found
    if not known:
        lost = f"no line has the hash {head}: lines were removed or changed since it was noted, or it is of another log"
        reports[0].faults.append(Fault(folder.name, 0, lost))
    return reports


class _Verification:
    """Walks through the lines of one chain."""

    def __init__(self, folder: Path, writer: str, keys: Keys | None, vouched: list[_Vouched], wanted: str) -> None:
        self._folder, self._writer, self._keys = folder, writer, keys
        self._vouched, self._wanted, self.found = vouched, wanted, False
        self._hashes: dict[int, str] = {}
        self._needed = {one.sequence for one in vouched}
        self._places: dict[int, tuple[str, int]] = {}
        self._notes: set[tuple[int, str]] = set()
        self._explained: set[tuple[str, int, str]] = set()
        self._tails: list[tuple[str, int, bytes]] = []
        self._begins: tuple[str, int, int, str] | None = None
        self._before: tuple[str, int, str] | None = None
        """File, number and hash of the last line that was in its place; None after one that is no entry."""
        self._place: tuple[str, int] | None = None
        """File and number of the last line."""
        self._event_before = ""
        self._start = 0
        """Entry of the last start; nothing follows it before it is signed."""
        self._after_start: tuple[str, int] | None = None
        """File and number of the line after the last start."""
        self.report = ChainReport(writer=writer, signed=keys is not None)

    def run(self, files: list[f.LogFile]) -> ChainReport:
        self.report.files = len(files)
        for file in files:
            for number, (line, whole) in enumerate(file.lines(), 1):
                self.report.lines += 1
                self._place = (file.name, number)
                if whole:
                    self._line(file.name, number, line)
                else:
                    self._tails.append((file.name, number, line))
        self._begin()
        self._tears(files)
        self._head()
        self._elsewhere()
        return self.report

    def _fault(self, file: str, line: int, what: str) -> None:
        """Adds a fault; of one line the first."""
        if not line or (file, line) not in {(known.file, known.line) for known in self.report.faults}:
            self.report.faults.append(Fault(file, line, what))

    def _line(self, file: str, number: int, line: bytes) -> None:
        entry, hashed = decode(line), hash_of(line)
        self.found |= hashed == self._wanted
        if entry is None:
            self._fault(file, number, "is no entry: it was changed or cut")
            self.report.last += 1
            self._before = None
            return
        sequence, expected = entry["sequence"], self.report.last + 1
        if self._begins is None and self.report.last == 0:
            self._begins, expected = (file, number, sequence, entry["previous"]), sequence
            self.report.first = sequence
        linked = self._before is not None and self._before[2] == entry["previous"]
        if sequence != expected and linked:
            self._fault(file, number, f"was changed: it says that it is entry {sequence}, and is entry {expected}")
            sequence = expected
        if sequence < expected:
            self._fault(file, number, f"is out of its place: entry {sequence} comes after entry {self.report.last}")
            return
        if sequence > expected:
            self._fault(file, number, f"entries {expected} to {sequence - 1} before it were removed")
        elif self._before is not None and not linked:
            self._fault(*self._before[:2], "was changed: the next line holds another hash of it")
        self._before = (file, number, hashed)
        self.report.last, self.report.head = sequence, hashed
        self._hashes |= {sequence: hashed} if sequence in self._needed else {}
        self._places |= {sequence: (file, number)} if sequence in self._needed else {}
        try:
            self._event(file, number, entry)
        except (KeyError, TypeError, ValueError):
            self._fault(file, number, "is no entry: it was changed")

    def _event(self, file: str, number: int, entry: dict[str, Any]) -> None:
        self._order(file, number, entry)
        if entry["event"] == "answer":
            self.report.answers += 1
        elif entry["event"] == "file":
            self._unsigned(int(entry["sealed"][0]), entry["sequence"] - 1)
            if entry.get("file") != file:
                self._fault(file, number, f"was written for the file {entry.get('file')}: the file was renamed")
            self._explained |= {(one["file"], one["bytes"], one["hash"]) for one in entry.get("torn", [])}
        elif entry["event"] == "deleted":
            last, hashed = int(entry["last"]), str(entry["hash"])
            said = deletion(self._writer, entry["files"], last, hashed)
            if self._keys is None or self._keys.signed(str(entry["key"]), str(entry["signature"]), *said):
                self._notes.add((last, hashed))
            else:
                self._fault(file, number, "is a note of deletion that no key of this log signed")

    def _order(self, file: str, number: int, entry: dict[str, Any]) -> None:
        """Checks that an entry is of a kind that a process writes there."""
        event, before = entry["event"], self._event_before
        self._event_before = event
        if (event == "file") != (number == 1):
            self._fault(file, number, "was added or moved: each file begins with a line that names it, and has one")
        elif event == "file":
            self._event_before = "file after stop" if before in ("stop", "file after stop") else event
        elif before == "stop":
            self._fault(file, number, "was added after the process had ended: nothing follows a stop in its file")
        elif before == "file after stop" and event == "deleted":
            # Another process deleted old files, and wrote nothing else.
            self._event_before = "stop"
        elif before == "file after stop" and event != "start":
            self._fault(file, number, "was added: a file after a stop begins with a start")
        if event == "start":
            self._start, self._after_start = entry["sequence"], None
        elif entry["sequence"] == self._start + 1 and self._start:
            self._after_start = file, number

    def _unsigned(self, signed: int, last: int) -> None:
        """Counts the lines after a signed one up to another; of these, nothing follows a start.

        Args:
            signed: number of the signed line.
            last: number of the last line before the next process began to write, or of the chain.
        """
        self.report.unsigned += max(last - signed, 0)
        if signed < self._start < last and self._after_start is not None:
            self._fault(*self._after_start, "was added: the start before it was never signed, so no process wrote on")

    def _begin(self) -> None:
        """Checks that the chain begins at its beginning, or where a signed note says that files were deleted."""
        if self._begins is None:
            return
        file, number, sequence, previous = self._begins
        if sequence == 1 and previous == FIRST:
            return
        if (sequence - 1, previous) not in self._notes:
            self._fault(file, number, f"entries 1 to {sequence - 1} before it were removed, and no signed note says so")

    def _tears(self, files: list[f.LogFile]) -> None:
        """Tells what a crash cut from what a hand cut.

        After a crash the next file says it, or there is none; and no head names an entry that is not there.
        """
        last = files[-1].name if files else ""
        ended = all(one.sequence <= self.report.last for one in self._vouched)
        for file, number, line in self._tails:
            if (file, len(line), hash_of(line)) in self._explained or (file == last and ended):
                self.report.torn.append(f"{file}, line {number}")
            else:
                self._fault(file, number, "was cut, and not by a crash: what was written after it says nothing of one")
        cut = {file for file, _, _ in self._tails}
        for file in {file for file, _, _ in self._explained} & {one.name for one in files} - cut:
            self._fault(file, 0, "a line that a crash cut was at its end, and was removed")

    def _head(self) -> None:
        path = f.head_file(self._folder, self._writer)
        head = f.read_head(path)
        if head is None and self._place is None:
            return  # where another chain names this one, ``_elsewhere`` says that it was removed
        if head is None:
            self._fault(path.name, 0, "is missing or no head of a chain: nothing tells where the chain ends")
        elif self._keys is not None and not head.signed(self._writer, self._keys):
            self._fault(path.name, 0, "no key of this log signed it")
        else:
            self._unsigned(head.sequence, self.report.last)

    def _elsewhere(self) -> None:
        """Compares the lines with what heads, later files and other writers said of them."""
        for one in self._vouched:
            if self._place is None:
                self._fault(one.file, one.line, f"the files of the writer {self._writer} were removed")
                return
            if one.sequence in self._hashes and self._hashes[one.sequence] != one.hash:
                self._fault(*self._places[one.sequence], f"was changed: {one.file} holds another hash of it")
        most = max(self._vouched, key=lambda one: one.sequence, default=None)
        if most is not None and self._place is not None and most.sequence > self.report.last:
            missing = f"entries {self.report.last + 1} to {most.sequence}"
            self._fault(*self._place, f"{missing} after it were removed: {most.file} names them")


def _vouched(folder: Path, files: dict[str, list[f.LogFile]]) -> dict[str, list[_Vouched]]:
    """Collects by writer what heads, files and starts say of lines."""
    found: dict[str, list[_Vouched]] = {}

    def add(writer: str, said: Any, file: str, line: int) -> None:
        if isinstance(said, list | tuple) and len(said) == 2 and type(said[0]) is int and said[0] > 0:
            found.setdefault(writer, []).append(_Vouched(sequence=said[0], hash=str(said[1]), file=file, line=line))

    for path in sorted(folder.glob("*.head")):
        head = f.read_head(path)
        if head is not None:
            add(path.stem, (head.sequence, head.hash), path.name, 0)
    for file, number, entry in _starts(files):
        add(file.writer, entry.get("sealed"), file.name, number)
        heads = entry.get("heads")
        for writer, said in heads.items() if isinstance(heads, dict) else ():
            add(writer, said, file.name, number)
    return found


def _starts(files: dict[str, list[f.LogFile]]) -> Iterator[tuple[f.LogFile, int, dict[str, Any]]]:
    """Returns the lines that speak of other lines."""
    for own in files.values():
        for file in own:
            for number, (line, _) in enumerate(file.lines(), 1):
                if b'"heads":' in line or b'"sealed":' in line:
                    entry = decode(line)
                    if entry is not None:
                        yield file, number, entry
