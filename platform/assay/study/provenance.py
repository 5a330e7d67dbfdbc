"""What a result depends on beside what was asked: versions and source."""

import hashlib
import importlib.util
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import assay

_DEPENDENCIES = (
    "torch",
    "numpy",
    "scipy",
    "scikit-learn",
    "opacus",
    "dp-accounting",
    "flwr",
    "gensim",
    "pillow",
    "pydicom",
    "wfdb",
)
_IF_INSTALLED = ("transformers",)
_NOT_HASHED = ("report", "cluster", "tracking.py", "release", "ledger", "store")
"""What shows or places a trial, or keeps account of it: no figure depends on it."""


def versions() -> dict[str, str]:
    """Versions of everything a result could depend on."""
    return {"assay": assay.__version__, **dependencies()}


@lru_cache(maxsize=1)
def dependencies() -> dict[str, str]:
    """Versions of the libraries a result could depend on; Assay's own code is named by its content."""
    extras = [name for name in _IF_INSTALLED if importlib.util.find_spec(name) is not None]
    return {name: metadata.version(name) for name in (*_DEPENDENCIES, *extras)}


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Hash of the code that makes results: a changed line makes new trials."""
    root = Path(assay.__file__).parent
    sha = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if not any(relative.is_relative_to(part) for part in _NOT_HASHED):
            sha.update(str(relative).encode())
            sha.update(path.read_bytes())
    return sha.hexdigest()[:20]
