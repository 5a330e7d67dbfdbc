"""Flower apps as they are published: read from their ``pyproject.toml`` and loaded from their folder.

An app is code of the user's own and runs with the user's rights, here and at the workers.
"""

import importlib
import sys
import tomllib
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from assay.errors import UserError

CLIENTS = 10
"""Clients where neither the user nor the app says how many; Flower's own default."""
_LOADED: set[str] = set()
"""Folders of the apps that this process has loaded."""


@dataclass(frozen=True, kw_only=True)
class FlowerApp:
    """A Flower app: where its two halves are, and its settings."""

    folder: str
    """Absolute; the same on every machine of a cluster."""
    name: str
    server: str
    """Reference to the ServerApp, such as ``package.server_app:app``."""
    client: str
    """Reference to the ClientApp."""
    config: Mapping[str, Any]
    """Settings of the run by flat name, such as ``train.lr``."""
    clients: int
    """Number of clients that the app's own file asks for."""


def read_app(folder: str | Path) -> FlowerApp:
    """Reads a Flower app's ``pyproject.toml``.

    Args:
        folder: with that file.

    Returns:
        The app; nothing of it is imported.

    Raises:
        UserError: there is no such file, or it describes no Flower app.
    """
    path = Path(folder).expanduser().resolve() / "pyproject.toml"
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise _unusable(f"{path.parent} has no pyproject.toml; give the folder of a Flower app", folder) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _unusable(f"{path} cannot be read: {error}", folder) from None
    flower = _table(read, "tool", "flwr")
    components = _table(flower, "app", "components")
    missing = [name for name in ("serverapp", "clientapp") if ":" not in str(components.get(name, ""))]
    if missing:
        raise _unusable(
            f"{path} names no {' and no '.join(missing)} under [tool.flwr.app.components]; write for example "
            f'{missing[0]} = "package.{missing[0][:-3]}_app:app"',
            folder,
        )
    return FlowerApp(
        folder=str(path.parent),
        name=str(_table(read, "project").get("name", path.parent.name)),
        server=components["serverapp"],
        client=components["clientapp"],
        config=_flat(_table(flower, "app", "config")),
        clients=_supernodes(_table(flower, "federations")),
    )


def fused_config(app: FlowerApp, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an app's settings with changes.

    Args:
        app: the app.
        changes: by name.

    Returns:
        All settings.

    Raises:
        UserError: the app has no such setting, or its default is of another type.
    """
    for name, value in changes.items():
        if name not in app.config:
            raise UserError(
                f"the app {app.name} has no setting {name!r}; it has {', '.join(sorted(app.config)) or 'none'}",
                setting=name,
                given=value,
                allowed=sorted(app.config),
            )
        default = app.config[name]
        if type(value) is not type(default) and not (isinstance(default, float) and type(value) is int):
            kind = type(default).__name__
            raise UserError(
                f"{name} of the app {app.name} is {value!r}, and must be of the type {kind}, as {default!r}",
                setting=name,
                given=value,
                allowed=kind,
            )
    fused = {**app.config, **changes}
    return {name: float(value) if isinstance(app.config[name], float) else value for name, value in fused.items()}


def load_client_app(app: FlowerApp) -> ClientApp:
    """Returns an app's ClientApp; see ``load_server_app``."""
    return _load(app, app.client, ClientApp)


def load_server_app(app: FlowerApp) -> ServerApp:
    """Returns an app's ServerApp, and leaves its folder on the path for imports at run time.

    Args:
        app: the app.

    Returns:
        The object to which the app refers.

    Raises:
        UserError: it cannot be imported, or is something else.
    """
    return _load(app, app.server, ServerApp)


def _load(app: FlowerApp, reference: str, kind: type) -> Any:
    """Imports what an app refers to from its own folder, also where another app has modules of the same names."""
    _forget_other_apps(app.folder)
    if app.folder in sys.path:
        sys.path.remove(app.folder)
    sys.path.insert(0, app.folder)
    importlib.invalidate_caches()
    name, _, attributes = reference.partition(":")
    try:
        found: Any = importlib.import_module(name)
        _refuse_another(app, name, found)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except UserError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"{reference!r} of the app {app.name} cannot be loaded: {type(error).__name__}: {error} "
            f"({last.filename}:{last.lineno})",
            setting="app",
            given=reference,
        ) from error
    if not isinstance(found, kind):
        raise UserError(
            f"{reference!r} of the app {app.name} is of the type {type(found).__name__}; it must be a {kind.__name__}",
            setting="app",
            given=reference,
            allowed=kind.__name__,
        )
    return found


def _forget_other_apps(folder: str) -> None:
    """Removes modules of apps in other folders: many apps call their modules ``task`` or ``client_app``."""
    others = [f"{other}/" for other in _LOADED if other != folder]
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), "")
        if others and f"{file}/".startswith(tuple(others)):
            del sys.modules[name]
    _LOADED.add(folder)


def _refuse_another(app: FlowerApp, name: str, module: Any) -> None:
    """Refuses a module that is not the app's own although the app has one of that name."""
    top = Path(app.folder) / name.partition(".")[0]
    file = str(getattr(module, "__file__", None) or "")
    if (top.is_dir() or top.with_suffix(".py").is_file()) and not file.startswith(f"{app.folder}/"):
        raise UserError(
            f"the app {app.name} calls a module {name!r}, and so does {file}; rename the app's",
            setting="app",
            given=name,
        )


def _unusable(message: str, folder: str | Path) -> UserError:
    return UserError(message, setting="app", given=str(folder), allowed="the folder of a Flower app")


def _table(read: Mapping[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        found = read.get(name, {})
        read = found if isinstance(found, dict) else {}
    return dict(read)


def _flat(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in table.items():
        flat.update(_flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value})
    return flat


def _supernodes(federations: Mapping[str, Any]) -> int:
    """Returns the number of clients of the default federation, or of the only one that says it."""
    named = _table(federations, str(federations.get("default", "")), "options")
    others = [_table(federations, name, "options") for name in federations]
    for options in (named, *others):
        if isinstance(options.get("num-supernodes"), int):
            return int(options["num-supernodes"])
    return CLIENTS
