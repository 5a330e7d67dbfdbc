"""Entry points: ``python -m jobs.NAME`` here, and the same under ``ray job submit``.

It imports only the standard library: a Python without Assay gets one line that names the right one.
"""

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

_PYTHON = Path(__file__).parents[1] / ".venv" / "bin" / "python"


def _refuse_another_python() -> None:
    """Exits with one line and exit code 2 if Assay or its dependencies are not installed."""
    absent = [name for name in ("assay", "typer") if find_spec(name) is None]
    if not absent:
        return
    command = shlex.join([".venv/bin/python", *sys.orig_argv[1:]])
    fix = f"run {command}" if _PYTHON.exists() else f"run `make .venv/.installed` once, then {command}"
    sys.stderr.write(
        f"error: {sys.executable} has no {' and no '.join(absent)}; {fix}, or first . .venv/bin/activate\n"
    )
    raise SystemExit(2)


_refuse_another_python()
