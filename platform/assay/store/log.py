"""An append-only file of entries: each is whole or ignored, and read where it lies."""

import os
import struct
import uuid
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

_HEAD = struct.Struct("<8s16s8s")
"""Mark of the format, name of this file's life, name of the layout of its entries."""
_ENTRY = struct.Struct("<4sIII")
"""Mark, bytes of the content, its checksum, nothing. Entries begin at multiples of 8 bytes."""
_FORMAT, _MARK = b"ASSAYLG1", b"entr"


class Log:
    """Entries in the order in which they were appended.

    One process appends; others read up to the last whole entry at any time, or follow from an offset.

    Args:
        path: of the file; it need not exist.
        layout: 8 bytes that name how entries are written; a file of another layout counts as absent.
    """

    def __init__(self, path: Path, layout: bytes) -> None:
        assert len(layout) == 8
        self._path, self._layout = path, layout
        self._map: pa.MemoryMappedFile | None = None
        self.name = b""
        """Names this life of the file: another one means that it was written anew, and offsets mean nothing."""

    def reopen(self) -> bool:
        """Look at the file as it is now; whether there is one of this layout."""
        self._map, self.name = None, b""
        try:
            found = pa.memory_map(str(self._path))
        except (FileNotFoundError, pa.ArrowInvalid):
            return False
        head = found.read_at(_HEAD.size, 0) if found.size() >= _HEAD.size else b""
        if len(head) < _HEAD.size:
            return False
        form, name, layout = _HEAD.unpack(head)
        if (form, layout) != (_FORMAT, self._layout):
            return False
        self._map, self.name = found, name
        return True

    @property
    def start(self) -> int:
        """Offset of the first entry."""
        return _HEAD.size

    def entries(self, offset: int) -> Iterator[tuple[int, int, pa.Buffer]]:
        """Whole entries from an offset on: where each begins, where it ends, and its content."""
        while (found := self._entry(offset)) is not None:
            content, end = found
            yield offset, end, content
            offset = end

    def content(self, offset: int) -> pa.Buffer | None:
        """Content of the entry at an offset; None if there is no whole one."""
        found = self._entry(offset)
        return None if found is None else found[0]

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
        """Bytes of the file when it was last looked at; 0 without one."""
        return 0 if self._map is None else int(self._map.size())

    def append(self, contents: Iterable[bytes | pa.Buffer]) -> None:
        """Append entries behind the last, which must be whole: what readers have mapped is never cut off."""
        with self._path.open("ab") as file:
            file.write(b"".join(map(_framed, contents)))

    def rewrite(self, contents: Iterable[bytes | pa.Buffer]) -> None:
        """Replace the file by one with these entries alone; readers keep the old one until they look again."""
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
        """Wait until the disk has everything that was appended."""
        with self._path.open("rb") as file:
            os.fsync(file.fileno())


def _framed(content: bytes | pa.Buffer) -> bytes:
    head = _ENTRY.pack(_MARK, memoryview(content).nbytes, zlib.crc32(content), 0)
    return b"".join((head, content, bytes(_padded(memoryview(content).nbytes) - memoryview(content).nbytes)))


def _padded(length: int) -> int:
    """The next multiple of 8."""
    return -(-length // 8) * 8
