"""The manifests parse, agree with the code, and are what KubeRay's definitions allow."""

import os
import re
import shlex
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.study.reading import read_study

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
KINDS = {"raycluster": "RayCluster", "rayjob": "RayJob", "rayservice": "RayService"}
every_kind = pytest.mark.parametrize("name", KINDS)


def manifest(name: str) -> dict[str, Any]:
    return next(yaml.safe_load_all((K8S / f"{name}.yaml").read_text()))


def cluster(name: str) -> dict[str, Any]:
    """The description of the Ray cluster within a manifest."""
    spec = manifest(name)["spec"]
    return spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec


def pods(name: str) -> list[dict[str, Any]]:
    spec = cluster(name)
    return [spec["headGroupSpec"]["template"], *(group["template"] for group in spec["workerGroupSpecs"])]


def mistakes(value: Any, schema: dict[str, Any], where: str = "") -> list[str]:
    """What a structural schema of Kubernetes refuses: unknown keys, missing ones, wrong types and values.

    An object of which it says nothing, such as ``metadata``, it leaves to the API server.
    """
    if schema.get("x-kubernetes-int-or-string"):
        return [] if isinstance(value, int | str) else [f"{where}: {value!r}"]
    kinds: dict[str, Any] = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    kind = kinds.get(schema.get("type", ""))
    if kind is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        return [f"{where}: {value!r} is no {schema['type']}"]
    found = [f"{where}: {value!r} is not allowed"] if value not in schema.get("enum", [value]) else []
    if isinstance(value, list):
        return found + [m for i, inner in enumerate(value) for m in mistakes(inner, schema["items"], f"{where}[{i}]")]
    if not isinstance(value, dict):
        return found
    found += [f"{where}.{key} is missing" for key in schema.get("required", []) if key not in value]
    known = schema.get("properties", {})
    for key, inner in value.items():
        below = known.get(key, schema.get("additionalProperties"))
        if isinstance(below, dict):
            found += mistakes(inner, below, f"{where}.{key}")
        elif below is None and known and not schema.get("x-kubernetes-preserve-unknown-fields"):
            found.append(f"{where}.{key} is unknown")
    return found


def definition(name: str) -> dict[str, Any]:
    folder = os.environ.get("ASSAY_CRDS", "")
    if not folder:
        pytest.skip("ASSAY_CRDS names no folder with KubeRay's definitions")
    # A megabyte: by libyaml, where it is there.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    crd = yaml.load((Path(folder) / f"ray.io_{name}s.yaml").read_text(), loader)
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == "v1")
    return version["schema"]["openAPIV3Schema"]


@every_kind
def test_a_manifest_is_what_its_definition_allows(name: str) -> None:
    made = manifest(name)
    assert (made["apiVersion"], made["kind"]) == ("ray.io/v1", KINDS[name])
    assert mistakes(made, definition(name)) == []


def test_the_validation_sees_mistakes() -> None:
    made = manifest("rayjob")
    made["spec"]["entripoint"] = "x"
    made["spec"]["backoffLimit"] = "two"
    made["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0].pop("name")
    found = " ".join(mistakes(made, definition("rayjob")))
    for said in ("entripoint is unknown", "'two' is no integer", "containers[0].name is missing"):
        assert said in found


@every_kind
def test_the_ray_release_is_the_one_that_is_installed(name: str) -> None:
    assert cluster(name)["rayVersion"] == metadata.version("ray")


def test_the_image_holds_that_release_too() -> None:
    text = (K8S / "Dockerfile").read_text()
    assert set(re.findall(r"ray(?:\[[\w,]+\]==|:)(\d[\d.]*\d)", text)) == {metadata.version("ray")}
    for folder in re.findall(r"^COPY --chown=\S+ (\w+) \1$", text, re.MULTILINE):
        assert (ROOT / folder).is_dir()
    assert {"platform", "jobs", "serve", "tune_spaces"} <= set(re.findall(r"(\w+) \1$", text, re.MULTILINE))


@every_kind
def test_pods_run_as_nobody_in_particular_and_keep_results(name: str) -> None:
    for pod in pods(name):
        (container,) = pod["spec"]["containers"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert container["volumeMounts"][0]["mountPath"] == "/results"
        assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == "assay"
    assert cluster(name)["authOptions"]["mode"] == "token"


def test_the_job_runs_one_of_ours_and_keeps_its_results() -> None:
    python, flag, module, study, option, results = shlex.split(manifest("rayjob")["spec"]["entrypoint"])
    assert (python, flag, option) == ("python", "-m", "--results")
    assert import_module(module).main
    assert read_study(study, folder=ROOT / "jobs" / "studies").name == study
    assert results.startswith("/results/")


def test_the_service_serves_our_application() -> None:
    from ray.serve.schema import ServeDeploySchema

    from serve.app import Serving

    said = yaml.safe_load(manifest("rayservice")["spec"]["serveConfigV2"])
    here = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
    for config in (said, here):
        (application,) = ServeDeploySchema.model_validate(config).applications
        module, _, builder = application.import_path.partition(":")
        assert callable(getattr(import_module(module), builder))
        serving = Serving.model_validate(application.args)
        study = read_study("quickstart", folder=ROOT / "jobs" / "studies")
        assert serving.recipe in study.cohorts["wdbc"].recipes
        assert config["http_options"]["request_timeout_s"] > 0
    assert here["http_options"]["host"] == "127.0.0.1"
    assert Serving.model_validate(said["applications"][0]["args"]).public


def test_only_clients_reach_the_model_and_nobody_the_rest() -> None:
    policy = manifest("networkpolicy")
    within, clients, submitter, operator = policy["spec"]["ingress"]
    assert policy["spec"]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "assay"}
    assert within["from"] == [{"podSelector": policy["spec"]["podSelector"]}]
    assert [port["port"] for port in clients["ports"]] == [8000]
    assert [port["port"] for port in submitter["ports"]] == [8265]
    assert all("ipBlock" not in source for rule in (within, clients, submitter, operator) for source in rule["from"])
