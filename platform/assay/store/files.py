"""Files of one folder of results, local or in an object store; each file is either complete or absent."""

import json
import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from assay.errors import StorageError, UserError, storage_errors
from assay.store.lease import NAME, Lease

Stamp = tuple[int, int]
"""Size of a file in bytes and its time of writing in nanoseconds; they change when the content changes."""


class Files:
    """Reads, replaces, moves and deletes files by their names within one folder.

    Args:
        location: a folder, or a URI such as ``s3://bucket/folder``.

    Raises:
        StorageError: the location cannot be used.
    """

    def __init__(self, location: str) -> None:
        if "://" in location:
            self.system, self.root = _reached(location)
        else:
            self.system, self.root = fs.LocalFileSystem(), str(Path(location).expanduser().resolve())
            if Path(self.root).exists() and not Path(self.root).is_dir():
                raise StorageError(
                    f"results would go to {self.root!r}, which is a file; give --results a folder",
                    setting="results",
                    given=self.root,
                )
        self.local = isinstance(self.system, fs.LocalFileSystem)
        self._lease: Lease | None = None
        """While this job holds the lock of a folder in an object store."""

    def path(self, name: str) -> str:
        """Returns the full path of a file.

        Args:
            name: within the folder.

        Returns:
            The path.
        """
        return posixpath.join(self.root, name)

    def exists(self, name: str) -> bool:
        """Returns whether a file exists.

        Args:
            name: within the folder.

        Returns:
            True if it does.
        """
        return bool(self.system.get_file_info(self.path(name)).type == fs.FileType.File)

    def stamp(self, name: str) -> Stamp:
        """Returns the stamp of a file.

        Args:
            name: within the folder.

        Returns:
            Size and time; ``(0, 0)`` for an absent file.
        """
        info = self.system.get_file_info(self.path(name))
        return (info.size, info.mtime_ns) if info.type == fs.FileType.File else (0, 0)

    def read(self, name: str) -> bytes:
        """Reads a file.

        Args:
            name: within the folder.

        Returns:
            Its content.
        """
        with self.system.open_input_file(self.path(name)) as file:
            return bytes(file.read())

    def read_text(self, name: str) -> str:
        """Reads a text file.

        Args:
            name: within the folder.

        Returns:
            Its content; empty if there is no such file.
        """
        return self.read(name).decode() if self.exists(name) else ""

    def names(self, folder: str, suffix: str = ".parquet") -> set[str]:
        """Returns the names of the files with a suffix in a folder.

        Args:
            folder: within this one.
            suffix: of the names.

        Returns:
            The names without the suffix; none for an absent folder.
        """
        return set(self.stamps(folder, suffix))

    def stamps(self, folder: str, suffix: str = ".parquet") -> dict[str, Stamp]:
        """Returns the stamp of each file with a suffix in a folder. It lists the folder once and opens no file.

        Args:
            folder: within this one.
            suffix: of the names.

        Returns:
            Stamps by name without the suffix.
        """
        if self.local:
            return _stamps_here(self.path(folder), suffix)
        selector = fs.FileSelector(self.path(folder), allow_not_found=True)
        return {
            posixpath.basename(info.path).removesuffix(suffix): (info.size, info.mtime_ns)
            for info in self.system.get_file_info(selector)
            if info.path.endswith(suffix) and not posixpath.basename(info.path).startswith(".")
        }

    @contextmanager
    def opened(self, name: str) -> Iterator[Any]:
        """Opens a results file for reading.

        Args:
            name: within the folder.

        Returns:
            Context manager with the open file.

        Raises:
            StorageError: the file is damaged, or is not a file of Assay; names it.
        """
        path = self.path(name)
        try:
            with storage_errors(path, setting="results"), self.system.open_input_file(path) as file:
                yield file
        except (pa.ArrowInvalid, KeyError, TypeError, json.JSONDecodeError) as error:
            raise StorageError(
                f"{path!r} is damaged or no results of Assay ({error}); delete it, and its trial runs again",
                setting="results",
                given=path,
            ) from error

    def commit(self, name: str, content: bytes) -> str:
        """Writes a file under a temporary name, syncs and renames it, so that readers see it complete or not at all.

        Args:
            name: within the folder.
            content: of the file.

        Returns:
            The full path or URI.
        """
        path = self.path(name)
        with storage_errors(path, setting="results"):
            self._check_lease()
            self.system.create_dir(posixpath.dirname(path))
            if self.local:
                _replace(path, content)
            else:
                # Object stores show an object only when it is complete.
                with self.system.open_output_stream(path) as sink:
                    sink.write(content)
        return path

    def move(self, name: str, target: str) -> None:
        """Renames a file, and replaces any file that has the new name.

        Args:
            name: within the folder.
            target: new name within the folder.
        """
        self._check_lease()
        self.system.create_dir(posixpath.dirname(self.path(target)))
        self.system.move(self.path(name), self.path(target))

    def delete(self, name: str) -> None:
        """Deletes a file, if it exists.

        Args:
            name: within the folder.
        """
        if self.exists(name):
            self._check_lease()
            self.system.delete_file(self.path(name))

    def delete_temporary(self, folder: str) -> None:
        """Deletes what killed jobs left half-written in a folder.

        Args:
            folder: its name; empty for the root.
        """
        selector = fs.FileSelector(self.path(folder).rstrip("/"), allow_not_found=True)
        for info in self.system.get_file_info(selector):
            name = posixpath.basename(info.path)
            if info.type == fs.FileType.File and name.startswith(".") and name.endswith(".tmp"):
                self.system.delete_file(info.path)

    def delete_folder(self, name: str) -> None:
        """Deletes a folder with everything in it, if it exists.

        Args:
            name: within this folder.
        """
        path = self.path(name)
        if self.system.get_file_info(path).type == fs.FileType.Directory:
            self._check_lease()
            self.system.delete_dir(path)

    def delete_folders(self, folder: str, prefix: str) -> None:
        """Deletes folders within a folder.

        Args:
            folder: within this one.
            prefix: with which their names begin.
        """
        selector = fs.FileSelector(self.path(folder), allow_not_found=True)
        self._check_lease()
        for info in self.system.get_file_info(selector):
            if info.type == fs.FileType.Directory and posixpath.basename(info.path).startswith(prefix):
                self.system.delete_dir(info.path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Takes the lock of this folder, so that one job writes at a time. The lock ends with its process.

        In an object store the lock is a lease, which is looked at before each write: see ``lease``.

        Raises:
            UserError: another job has the lock.
        """
        if not self.local:
            with self._leased():
                yield
            return
        import fcntl

        with storage_errors(self.root, setting="results"):
            Path(self.root).mkdir(parents=True, exist_ok=True)
            lock = (Path(self.root) / ".lock").open("w")
        with lock as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another job is writing {self.root}; wait for it, or give --results elsewhere"
                ) from None
            yield

    @contextmanager
    def _leased(self) -> Iterator[None]:
        def read() -> bytes:
            return self.read(NAME) if self.exists(NAME) else b""

        def write(content: bytes) -> None:
            with storage_errors(self.path(NAME), setting="results"):
                self.system.create_dir(self.root)
                with self.system.open_output_stream(self.path(NAME)) as sink:
                    sink.write(content)

        lease = Lease(self.root, read, write)
        with lease.held():
            self._lease = lease
            try:
                yield
            finally:
                self._lease = None

    def _check_lease(self) -> None:
        """Raises an error if another job has taken the lock of this folder."""
        if self._lease is not None:
            self._lease.check()


def _reached(location: str) -> tuple[fs.FileSystem, str]:
    """Returns the file system that a URI names, and the path in it.

    Raises:
        StorageError: it is not a URI, or the store cannot be reached.
    """
    try:
        return fs.FileSystem.from_uri(location)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise StorageError(
            f"results would go to {location!r}, which cannot be used: {error}; give --results a folder, or a URI such "
            "as s3://bucket/folder",
            setting="results",
            given=location,
        ) from error


def _stamps_here(folder: str, suffix: str) -> dict[str, Stamp]:
    """Returns ``Files.stamps`` of a local folder, several times as fast as by pyarrow."""
    try:
        with os.scandir(folder) as entries:
            kept = [entry for entry in entries if entry.name.endswith(suffix) and entry.name[0] != "."]
            stats = [entry.stat() for entry in kept]
    except FileNotFoundError:
        return {}
    end = -len(suffix) or None
    return {entry.name[:end]: (stat.st_size, stat.st_mtime_ns) for entry, stat in zip(kept, stats, strict=True)}


def _replace(path: str, content: bytes) -> None:
    # A leading dot: pyarrow, pandas and DuckDB pass over what a killed job may leave behind.
    temporary = Path(path).with_name(f".{posixpath.basename(path)}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
