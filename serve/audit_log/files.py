"""Files of a decision log: those of each writer in the order of its chain, and the signed head of the chain."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from assay.errors import UserError
from serve.audit_log.keys import Key, Keys
from serve.audit_log.lines import FIRST

SUFFIX = ".jsonl"


@dataclass(frozen=True)
class LogFile:
    """One file, ``DATE.WRITER.NUMBER.jsonl``."""

    path: Path
    day: date
    writer: str
    number: int

    @property
    def name(self) -> str:
        """Within the folder."""
        return self.path.name

    def lines(self) -> Iterator[tuple[bytes, bool]]:
        """Returns the lines, without their ends, and whether each has its end."""
        with self.path.open("rb") as file:
            for line in file:
                yield line.removesuffix(b"\n"), line.endswith(b"\n")


@dataclass(frozen=True)
class Head:
    """The last line of a chain that is known to be on disk."""

    sequence: int = 0
    hash: str = FIRST
    key: str = ""
    signature: str = ""

    @classmethod
    def of(cls, writer: str, sequence: int, hashed: str, key: Key) -> "Head":
        """Signs the head of a chain.

        Args:
            writer: of the chain.
            sequence: of its last line.
            hashed: hash of that line.
            key: that signs.
        """
        return cls(sequence, hashed, key.name, key.signature("head", writer, sequence, hashed))

    def signed(self, writer: str, keys: Keys) -> bool:
        """Returns whether it was signed with a key of the log.

        Args:
            writer: of the chain.
            keys: of the log.
        """
        return keys.signed(self.key, self.signature, "head", writer, self.sequence, self.hash)


def file_at(folder: Path, day: date, writer: str, number: int) -> LogFile:
    """Returns a file of a chain, which need not exist.

    Args:
        folder: of the log.
        day: in UTC, on which it is begun.
        writer: of the chain.
        number: of the file within the chain, from 1.
    """
    return LogFile(folder / f"{day.isoformat()}.{writer}.{number:06d}{SUFFIX}", day, writer, number)


def files_of(folder: Path) -> dict[str, list[LogFile]]:
    """Returns the files of all writers.

    Args:
        folder: of the log.

    Returns:
        By writer, in the order of the chain.
    """
    found: dict[str, list[LogFile]] = {}
    for path in folder.glob(f"*{SUFFIX}"):
        day, writer, number = [*path.name.removesuffix(SUFFIX).split("."), "", ""][:3]
        try:
            one = LogFile(path, date.fromisoformat(day), writer, int(number))
        except ValueError:
            continue
        found.setdefault(writer, []).append(one)
    return {writer: sorted(files, key=lambda one: one.number) for writer, files in sorted(found.items())}


def no_log(folder: Path) -> UserError:
    """Returns the error of a folder without a log.

    Args:
        folder: that was named.
    """
    return UserError(
        f"there is no decision log in {str(folder)!r}; name the folder of the setting `log` of the service, which is "
        "`decisions` beside the folder of the results by default",
        setting="FOLDER", given=str(folder),
    )  # fmt: skip


def head_file(folder: Path, writer: str) -> Path:
    """Returns the path of the head of a chain.

    Args:
        folder: of the log.
        writer: of the chain.
    """
    return folder / f"{writer}.head"


def read_head(path: Path) -> Head | None:
    """Reads the head of a chain.

    Args:
        path: of its file.

    Returns:
        The head; None where there is none, or the file is none.
    """
    try:
        said = json.loads(path.read_bytes())
        return Head(int(said["sequence"]), str(said["hash"]), str(said["key"]), str(said["signature"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_head(path: Path, head: Head) -> None:
    """Replaces the head of a chain.

    Args:
        path: of its file.
        head: the new one.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_some(file, json.dumps(vars(head)).encode())
    finally:
        os.close(file)
    temporary.replace(path)


def write_some(file: int, content: bytes) -> int:
    """Writes as much as the disk takes.

    Args:
        file: descriptor.
        content: to be written.

    Returns:
        Number of bytes written.
    """
    return os.write(file, content)
