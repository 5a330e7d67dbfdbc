"""Flower's own quickstart for PyTorch, byte for byte, over data that need no network.

Its ``client_app.py`` and ``server_app.py`` are not part of this repository. ``ASSAY_FLOWER_EXAMPLE`` names the folder
``examples/quickstart-pytorch`` of a checkout of Flower; without it, the tests that need it are skipped.
"""

import hashlib
import os
import shutil
from pathlib import Path

import pytest

EXAMPLE = "ASSAY_FLOWER_EXAMPLE"
FLOWER_APP = Path(__file__).parent / "flower_app"
DIGESTS = {
    "client_app.py": "36070e6760cf4dcf1ae985edf5fcb13a39c01d9ba6831c3c2daf24252fa8a4b6",
    "server_app.py": "9b397c03a040633404b46b9ca3aa4b2fa13f60485909671a38957701dcca0b08",
}
"""SHA-256 of the files that were tried; those of another version of Flower run too, or the test says what does not."""


def quickstart(folder: Path) -> Path:
    """Lays the example out in a folder, with the digits' ``task.py`` as its own; skips without a checkout."""
    checkout = os.environ.get(EXAMPLE)
    if not checkout:
        pytest.skip(f"{EXAMPLE} names no checkout of Flower's examples/quickstart-pytorch")
    app = folder / "quickstart"
    package = app / "pytorchexample"
    package.mkdir(parents=True)
    for name, digest in DIGESTS.items():
        shutil.copy(Path(checkout) / "pytorchexample" / name, package / name)
        if hashlib.sha256((package / name).read_bytes()).hexdigest() != digest:
            print(f"{name} is of another version of Flower than the one tried")
    shutil.copy(FLOWER_APP / "digits_app" / "task.py", package / "task.py")
    (package / "__init__.py").touch()
    written = (FLOWER_APP / "pyproject.toml").read_text().replace("digits_app", "pytorchexample")
    (app / "pyproject.toml").write_text(written)
    return app
