"""The manifests as kustomize renders them: what ``kubectl apply -k`` would send."""

import functools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
SITES = Path(__file__).parent / "sites"
OVERLAYS = sorted((K8S / "overlays").iterdir())
# Every overlay, and sites that take all components together, as a user's own overlay would.
FOLDERS = [*OVERLAYS, *sorted(SITES.iterdir())]
every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)

Manifest = dict[str, Any]


def kustomize() -> list[str]:
    """The command that renders; tests are skipped where there is none."""
    own = Path(sys.executable).parent / "kubectl"
    if kubectl := shutil.which("kubectl") or (str(own) if own.exists() else None):
        return [kubectl, "kustomize"]
    if program := shutil.which("kustomize"):
        return [program, "build"]
    pytest.skip("neither kubectl nor kustomize is here: python tests/k8s/install_kubectl.py")


@functools.cache
def _rendered(folder: Path) -> str:
    done = subprocess.run([*kustomize(), str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(folder: Path) -> list[Manifest]:
    """All manifests of an overlay, fresh at each call."""
    # By libyaml, where it is there: it is ten times as fast.
    return list(yaml.load_all(_rendered(folder), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def one(folder: Path, kind: str) -> Manifest:
    """The only manifest of that kind."""
    (found,) = (manifest for manifest in rendered(folder) if manifest["kind"] == kind)
    return found


def cluster(manifest: Manifest) -> Manifest | None:
    """The description of the Ray cluster within a manifest, or None."""
    spec = manifest.get("spec", {})
    return spec if manifest["kind"] == "RayCluster" else spec.get("rayClusterSpec") or spec.get("rayClusterConfig")


def clusters() -> Iterator[tuple[str, Manifest]]:
    """Every description of a Ray cluster, with the name of its overlay."""
    for folder in FOLDERS:
        for manifest in rendered(folder):
            if found := cluster(manifest):
                yield folder.name, found


def pods(manifest: Manifest) -> list[Manifest]:
    """The templates of all pods that a manifest describes."""
    spec = manifest.get("spec", {})
    found = [spec["template"]] if manifest["kind"] == "Deployment" else []
    found += [spec["submitterPodTemplate"]] if "submitterPodTemplate" in spec else []
    if ray := cluster(manifest):
        found += [ray["headGroupSpec"]["template"], *(group["template"] for group in ray["workerGroupSpecs"])]
    return found
