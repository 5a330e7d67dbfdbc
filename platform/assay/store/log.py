"""An append-only file of entries, read through a memory map; an entry is complete or ignored."""

import os
import struct
import uuid
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

_HEAD = struct.Struct("<8s16s8s")
"""Mark of the format, name of this version of the file, name of the layout of its entries."""
_ENTRY = struct.Struct("<4sIII")
"""Mark, bytes of the content, its checksum, and padding. Entries begin at multiples of 8 bytes."""
_FORMAT, _MARK = b"ASSAYLG1", b"entr"


class Log:
    """Entries in the order in which they were appended.

    One process appends. Others read up to the last complete entry at any time, or continue from an offset.

    Args:
        path: of the file; it need not exist.
        layout: 8 bytes that name the format of the entries; a file with another layout counts as absent.
    """

    def __init__(self, path: Path, layout: bytes) -> None:
        assert len(layout) == 8
        self._path, self._layout = path, layout
        self._map: pa.MemoryMappedFile | None = None
        self.name = b""
        """Names this life of the file: another one means that it was written anew, and offsets mean nothing."""

    def reopen(self) -> bool:
        """Maps the present file.

        Returns:
            Whether there is a file with this layout.
        """
        self._map, self.name = None, b""
        try:
            mapped = pa.memory_map(str(self._path))
        except (FileNotFoundError, pa.ArrowInvalid):
            return False
        head = mapped.read_at(_HEAD.size, 0) if mapped.size() >= _HEAD.size else b""
        if len(head) < _HEAD.size:
            return False
        form, name, layout = _HEAD.unpack(head)
        if (form, layout) != (_FORMAT, self._layout):
            return False
        self._map, self.name = mapped, name
        return True

    def close(self) -> None:
        """Lets the file go until the next ``reopen``; what was read of it stays."""
        self._map = None

    @property
    def start(self) -> int:
        """Offset of the first entry."""
        return _HEAD.size

    def entries(self, offset: int) -> Iterator[tuple[int, int, pa.Buffer]]:
        """Returns the complete entries from an offset on.

        Args:
            offset: in bytes.

        Returns:
            Iterator over begin, end and content of each.
        """
        while (entry := self._entry(offset)) is not None:
            content, end = entry
            yield offset, end, content
            offset = end

    def content(self, offset: int) -> pa.Buffer | None:
        """Returns the content of the entry at an offset.

        Args:
            offset: in bytes.

        Returns:
            The content; None if there is no complete entry.
        """
        entry = self._entry(offset)
        return None if entry is None else entry[0]

    def _entry(self, offset: int) -> tuple[pa.Buffer, int] | None:
        mapped = self._map
        if mapped is None or offset + _ENTRY.size > mapped.size():
            return None
        mark, length, checksum, _ = _ENTRY.unpack(mapped.read_at(_ENTRY.size, offset))
        begin = offset + _ENTRY.size
        if mark != _MARK or begin + length > mapped.size():
            return None
        mapped.seek(begin)
        content = mapped.read_buffer(length)
        return None if zlib.crc32(content) != checksum else (content, begin + _padded(length))

    @property
    def size(self) -> int:
        """Bytes of the file at the last ``reopen``; 0 without one."""
        return 0 if self._map is None else int(self._map.size())

    def append(self, contents: Iterable[bytes | pa.Buffer]) -> None:
        """Appends entries after the last, which must be complete; bytes that readers have mapped never change.

        Args:
            contents: of the entries.
        """
        with self._path.open("ab") as file:
            file.write(b"".join(map(_framed, contents)))

    def rewrite(self, contents: Iterable[bytes | pa.Buffer]) -> None:
        """Replaces the file by one with these entries only; readers keep the old one until they reopen it.

        Args:
            contents: of the entries.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(_HEAD.pack(_FORMAT, uuid.uuid4().bytes, self._layout))
                for content in contents:
                    file.write(_framed(content))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self.reopen()

    def sync(self) -> None:
        """Waits until everything that was appended is on disk."""
        with self._path.open("rb") as file:
            os.fsync(file.fileno())


def _framed(content: bytes | pa.Buffer) -> bytes:
    head = _ENTRY.pack(_MARK, memoryview(content).nbytes, zlib.crc32(content), 0)
    return b"".join((head, content, bytes(_padded(memoryview(content).nbytes) - memoryview(content).nbytes)))


def _padded(length: int) -> int:
    """Returns the next multiple of 8."""
    return -(-length // 8) * 8
