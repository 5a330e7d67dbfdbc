"""The repository: for each served name its versions, and which of them answers by default."""

from contextlib import suppress
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assay.errors import SpecError
from assay.registry import explain
from assay.store.files import Files
from assay.study.spec import PathName

MOST_VERSIONS = 8
"""Versions of one name that may be loaded at the same time: each stays in memory."""
_FOLDER = "models"
_REMOVED = "removed"
_SHOWN = 12
"""Characters of a hash in messages and lists."""


class Source(BaseModel):
    """Where a version comes from: one finished trial of a study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    results: str
    """Folder or URI of the study."""
    recipe: str
    cohort: str | None = None
    """By default the first that has the recipe."""
    fold: Annotated[int, Field(ge=1)] = 1
    repeat: Annotated[int, Field(ge=1)] = 1
    client: str = ""
    """Client whose own model it is, where the recipe personalises."""
    artefact: str = ""
    """Hash of the weights that were chosen; empty until the version is added to a repository."""


class Version(Source):
    """One version of a served model."""

    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """Name of the version in paths and answers."""


class Removed(BaseModel):
    """What is kept of versions that were removed, so that their names mean the same weights for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    numbered: int = 0
    """The greatest number that a version has had: it names no other one."""
    removed: dict[str, str] = {}
    """Hashes of the weights of removed versions, by version."""


class Entry(Removed):
    """All versions of one name."""

    name: PathName
    versions: tuple[Version, ...]
    current: str
    """The version that answers where a request names none."""
    previous: str = ""
    """The version that answered before it: what a rollback returns to."""

    @classmethod
    def first(cls, name: str, version: Version, removed: Removed) -> "Entry":
        """Returns the entry of a name with its first version.

        Args:
            name: of the model.
            version: the version, which answers by default.
            removed: what is kept of an earlier model of this name.

        Raises:
            SpecError: the version once had other weights.
        """
        entry = cls(name=name, versions=(), current=version.version, **removed.model_dump())
        return entry.with_version(version, current=False)

    def version(self, name: str) -> Version:
        """Returns one version.

        Args:
            name: of the version.

        Returns:
            The version.

        Raises:
            SpecError: there is none of that name.
        """
        for one in self.versions:
            if one.version == name:
                return one
        known = [one.version for one in self.versions]
        raise SpecError(
            f"{self.name!r} has no version {name!r}; its versions: {', '.join(known)}",
            setting="version",
            given=name,
            allowed=known,
        )

    def with_version(self, version: Version, *, current: bool) -> "Entry":
        """Adds a version.

        Args:
            version: the new one.
            current: whether it answers by default at once.

        Returns:
            The changed entry.

        Raises:
            SpecError: its name is, or was, that of other weights, or there are too many versions.
        """
        same = next((one for one in self.versions if one.version == version.version), None)
        known = same.artefact if same is not None else self.removed.get(version.version, version.artefact)
        if known != version.artefact:
            raise SpecError(
                f"version {version.version!r} of {self.name!r} {'has' if same else 'had'} the weights "
                f"{known[:_SHOWN]}, and may not get others ({version.artefact[:_SHOWN]}, recipe {version.recipe!r} of "
                f"{version.results}): leave --version out, which gives {self.next_version}",
                setting="version",
                given=version.version,
            )
        if same is not None and same != version:
            raise SpecError(
                f"version {version.version!r} of {self.name!r} has the same weights from {same.results} (recipe "
                f"{same.recipe!r}), not from {version.results} (recipe {version.recipe!r}): leave it as it is, or "
                f"leave --version out, which gives {self.next_version}",
                setting="version",
                given=version.version,
            )
        if same is not None:
            return self.promoted(version.version) if current else self
        versions = (*self.versions, version)
        if len(versions) > MOST_VERSIONS:
            raise SpecError(
                f"{self.name!r} has {len(self.versions)} versions, and {MOST_VERSIONS} are allowed; unload one first",
                setting="version",
                given=version.version,
                allowed=MOST_VERSIONS,
            )
        numbered = max(self.numbered, *(int(one.version) for one in versions if one.version.isdecimal()), 0)
        changed = self.model_copy(update={"versions": versions, "numbered": numbered})
        return changed.promoted(version.version) if current else changed

    def promoted(self, version: str) -> "Entry":
        """Lets a version answer by default.

        Args:
            version: its name.

        Returns:
            The changed entry; a rollback returns to the version that answered before.

        Raises:
            SpecError: there is none of that name.
        """
        self.version(version)
        if version == self.current:
            return self
        return self.model_copy(update={"current": version, "previous": self.current})

    def rolled_back(self) -> "Entry":
        """Returns to the version that answered before.

        Returns:
            The changed entry; another rollback returns to the present version.

        Raises:
            SpecError: no other version has answered.
        """
        if not self.previous:
            raise SpecError(
                f"{self.name!r} has had no other current version than {self.current!r}: there is nothing to return to",
                setting="version",
                given=self.current,
            )
        return self.promoted(self.previous)

    def without(self, version: str) -> "Entry":
        """Removes a version.

        Args:
            version: its name.

        Returns:
            The changed entry.

        Raises:
            SpecError: there is none of that name, or it is the one that answers by default.
        """
        self.version(version)
        if version == self.current:
            raise SpecError(
                f"version {version!r} of {self.name!r} answers by default; promote another one first",
                setting="version",
                given=version,
            )
        versions = tuple(one for one in self.versions if one.version != version)
        previous = "" if self.previous == version else self.previous
        removed = {**self.removed, version: self.version(version).artefact}
        return self.model_copy(update={"versions": versions, "previous": previous, "removed": removed})

    def without_all(self) -> Removed:
        """Returns what is kept when all versions are removed."""
        removed = self.removed | {one.version: one.artefact for one in self.versions}
        return Removed(numbered=int(self.next_version) - 1, removed=removed)

    @property
    def next_version(self) -> str:
        """The number after the greatest that a version has had."""
        return str(max(self.numbered, *(int(one.version) for one in self.versions if one.version.isdecimal()), 0) + 1)


class Repository:
    """A folder with one file for each served name. Writers replace a file as a whole, so readers see all or nothing.

    Args:
        location: folder or URI.
    """

    def __init__(self, location: str) -> None:
        self._files = Files(location)

    def names(self) -> list[str]:
        """Returns the served names, in alphabetical order."""
        return sorted(self._files.names(_FOLDER, ".json"))

    def stamp(self, name: str) -> tuple[int, int]:
        """Returns what changes with the file of a name: its size and its time.

        Args:
            name: of a model.

        Returns:
            The stamp; ``(0, 0)`` where there is none.
        """
        return self._files.stamp(f"{_FOLDER}/{name}.json")

    def read(self, name: str) -> Entry | None:
        """Reads the versions of a name.

        Args:
            name: of a model.

        Returns:
            Its entry; None where it is not served.

        Raises:
            SpecError: the file is not an entry.
        """
        file = f"{_FOLDER}/{name}.json"
        if not self._files.exists(file):
            return None
        try:
            return Entry.model_validate_json(self._files.read(file))
        except ValidationError as error:
            raise SpecError(f"{self._files.path(file)}: {'; '.join(explain(error))}", setting="repository") from None

    def write(self, entry: Entry) -> None:
        """Replaces the versions of a name.

        Args:
            entry: all of them.
        """
        self._files.commit(f"{_FOLDER}/{entry.name}.json", (entry.model_dump_json(indent=2) + "\n").encode())

    def delete(self, name: str) -> None:
        """Removes a name with all its versions; which weights they had is kept.

        Args:
            name: of a model.
        """
        # Of a damaged file nothing can be kept.
        with suppress(SpecError):
            if (entry := self.read(name)) is not None:
                kept = entry.without_all().model_dump_json(indent=2) + "\n"
                self._files.commit(f"{_REMOVED}/{name}.json", kept.encode())
        self._files.delete(f"{_FOLDER}/{name}.json")

    def removed(self, name: str) -> Removed:
        """Returns what is kept of a name whose versions were all removed.

        Args:
            name: of a model.

        Raises:
            SpecError: the file holds something else.
        """
        file = f"{_REMOVED}/{name}.json"
        if not self._files.exists(file):
            return Removed()
        try:
            return Removed.model_validate_json(self._files.read(file))
        except ValidationError as error:
            raise SpecError(f"{self._files.path(file)}: {'; '.join(explain(error))}", setting="repository") from None

    @property
    def locked(self):  # type: ignore[no-untyped-def]
        """Lets one writer at a time change the repository."""
        return self._files.locked
