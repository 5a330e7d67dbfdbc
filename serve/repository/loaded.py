"""The versions that one replica has loaded, kept as the repository says while requests are answered."""

import gc
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from assay.errors import UserError
from serve.model import NoFiniteAnswerError
from serve.repository.entries import Entry, Repository, Version
from serve.repository.online import Online

logger = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks at the repository."""
_AGAIN = 30.0
"""Seconds after which a version that could not be loaded is tried again."""


class UnfitError(Exception):
    """This replica has not passed its self-test, and answers no call; another one may."""


class UnknownModelError(Exception):
    """No model, or no version, of that name is loaded. The message names what is."""


@dataclass
class _Name:
    """The loaded versions of one name."""

    versions: dict[str, Online] = field(default_factory=dict)
    current: str = ""
    previous: str = ""
    """The version that answered before it."""
    failed: dict[str, str] = field(default_factory=dict)


class Loaded:
    """The loaded versions of all names of a replica. Reading takes no lock: entries are replaced, never changed.

    Args:
        online: what is loaded from the start.
        told: takes each change, as ``told("load", model=..., version=..., artefact=...)``, such as
            ``DecisionLog.event``.
    """

    def __init__(self, online: Iterable[Online] = (), *, told: Callable[..., None] | None = None) -> None:
        self._names: dict[str, _Name] = {}
        self._told = told
        self.unfit = ""
        """Why none of the models answers any call: what the self-test of this replica found; empty if it passed."""
        for one in online:
            own = self._names.setdefault(one.name, _Name(current=one.version))
            own.versions[one.version] = one
            self._tell("load", model=one.name, version=one.version, artefact=one.artefact)

    @property
    def names(self) -> list[str]:
        """Names of the loaded models."""
        return sorted(name for name, own in list(self._names.items()) if own.versions)

    @property
    def failing(self) -> dict[str, dict[str, str]]:
        """By name, the versions that could not be loaded, with the reasons; also of names without a loaded version."""
        return {name: dict(own.failed) for name, own in sorted(self._names.items()) if own.failed}

    def online(self) -> list[Online]:
        """Returns all loaded versions of all names."""
        return [one for own in list(self._names.values()) for one in own.versions.values()]

    def versions(self, name: str) -> list[str]:
        """Returns the loaded versions of a name, the one that answers by default first.

        Args:
            name: of a model.

        Raises:
            UnknownModelError: it is not loaded.
        """
        own = self._own(name)
        return [own.current, *(version for version in own.versions if version != own.current)]

    def find(self, name: str, version: str | None = None) -> Online:
        """Returns the version that answers.

        Args:
            name: of a model.
            version: by default the current one.

        Returns:
            The loaded version.

        Raises:
            UnknownModelError: it is not loaded.
            UnfitError: the replica has not passed its self-test.
        """
        own = self._own(name)
        if self.unfit:
            raise UnfitError(self.unfit)
        found = own.versions.get(own.current if version is None else version)
        if found is None:
            raise UnknownModelError(f"no such version of this model; loaded: {_listed(own.versions)}")
        return found

    def _own(self, name: str) -> _Name:
        own = self._names.get(name)
        if own is None or not own.versions:
            raise UnknownModelError(f"no such model; this server has {_listed(self.names)}")
        return own

    def update(self, entry: Entry, load: Callable[[str, Version], Online]) -> bool:
        """Loads and unloads versions until they are those of an entry; requests are answered meanwhile.

        A version answers by default once it is loaded, and the former one until then; where none has answered yet,
        another one that could be loaded. One that cannot be loaded is noted, and the others stay.

        Args:
            entry: all versions of one name.
            load: opens a version of a name.

        Returns:
            Whether other versions are loaded than before.
        """
        before = self._names.get(entry.name, _Name())
        versions, failed = dict(before.versions), dict[str, str]()
        for version in entry.versions:
            same = versions.get(version.version)
            if same is not None and same.artefact == version.artefact:
                continue
            try:
                versions[version.version] = load(entry.name, version)
            except Exception as error:  # whatever is wrong with one version, the others answer
                foreseen = isinstance(error, UserError | OSError | NoFiniteAnswerError)
                why = str(error) if foreseen else f"it cannot be loaded ({type(error).__name__})"
                if same is not None:
                    # Whoever changed the file by hand gets what answers, under its own hash, and is told.
                    why = (
                        f"the weights {version.artefact[:12]} cannot be loaded, and the weights {same.artefact[:12]} "
                        f"answer as this version still: {why}"
                    )
                failed[version.version] = why
                logger.error("version %s of %s was not loaded: %s", version.version, entry.name, why)
        wanted = {version.version for version in entry.versions}
        current = entry.current if entry.current in versions else before.current or next(iter(versions), "")
        kept = {name: one for name, one in versions.items() if name in wanted or name == current}
        previous = before.previous if current == before.current else before.current
        after = _Name(versions=kept, current=current, previous=previous, failed=failed)
        self._names[entry.name] = after
        self._tell_changes(entry.name, before, after)
        return set(map(id, kept.values())) != set(map(id, before.versions.values()))

    def drop(self, name: str) -> None:
        """Unloads all versions of a name.

        Args:
            name: of a model.
        """
        own = self._names.pop(name, _Name())
        self._tell_changes(name, own, _Name(current=own.current))

    def _tell_changes(self, name: str, before: _Name, after: _Name) -> None:
        """Tells which versions were loaded and unloaded, and which one answers now where none is named."""
        for version, one in after.versions.items():
            if before.versions.get(version) is not one:
                self._tell("load", model=name, version=version, artefact=one.artefact)
        if before.current and after.current != before.current:
            back = after.current == before.previous
            about = {"version": after.current, "artefact": after.versions[after.current].artefact}
            self._tell("rollback" if back else "promote", model=name, **about, before=before.current)
        for version, one in before.versions.items():
            if version not in after.versions:
                self._tell("unload", model=name, version=version, artefact=one.artefact)

    def _tell(self, event: str, **about: str) -> None:
        if self._told is not None:
            self._told(event, **about)


def follow(
    loaded: Loaded, repository: Repository, names: Iterable[str] | None, load: Callable[[str, Version], Online]
) -> threading.Thread:
    """Loads what the repository says, then looks for changes in a thread, once a second.

    Args:
        loaded: the versions of this replica.
        repository: what is served.
        names: the models of this replica; all of the repository if None.
        load: opens a version of a name.

    Returns:
        The thread; it ends with the process.
    """
    seen: dict[str, tuple[tuple[int, int], float]] = {}

    def look() -> None:
        changed = False
        served = set(repository.names())
        wanted = served if names is None else served & set(names)
        for name in sorted(wanted):
            stamp, now = repository.stamp(name), time.monotonic()
            before, when = seen.get(name, ((-1, -1), 0.0))
            stale = name in loaded.failing and now - when > _AGAIN
            if stamp == before and not stale:
                continue
            seen[name] = (stamp, now)
            try:
                entry = repository.read(name)
            except UserError as error:
                # What is loaded of it goes on answering, and the other names follow their own entries.
                logger.error("the entry of %s cannot be read: %s", name, error)
                continue
            if entry is not None:
                changed = loaded.update(entry, load) or changed
        for name in {*loaded.names, *loaded.failing} - wanted:
            loaded.drop(name)
            seen.pop(name, None)
            changed = True
        if changed:
            settle()

    def work() -> None:
        while True:
            time.sleep(EVERY)
            try:
                look()
            except Exception:
                # An unreadable repository must not end the service: what is loaded goes on answering.
                logger.exception("the repository could not be read; the loaded models stay as they are")

    look()
    thread = threading.Thread(target=work, daemon=True, name="repository")
    thread.start()
    return thread


def settle() -> None:
    """Takes what is loaded now out of the search for cyclic garbage.

    Else each full search looks at models and libraries again, 0.1 to 0.2 s in which no call is answered.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "none"
