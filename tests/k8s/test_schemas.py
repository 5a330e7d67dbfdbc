"""Every rendered manifest is what Kubernetes and the operators accept, and what they refuse is seen."""

from typing import Any

import pytest
from rendering import K8S, SITES, Manifest, every_folder, one, pods, rendered
from schemas import Rule, refusals, rules

KINDS = ("RayCluster", "RayJob", "RayService")
HOME = {
    "RayCluster": K8S / "overlays" / "a100",
    "RayJob": K8S / "overlays" / "a100-study",
    "RayService": K8S / "overlays" / "cpu-model",
    "Deployment": K8S / "overlays" / "cpu",
    "NetworkPolicy": K8S / "overlays" / "cpu",
    "PodMonitor": SITES / "everything",
}


@every_folder
def test_every_manifest_is_accepted(folder: Any) -> None:
    for manifest in rendered(folder):
        assert refusals(manifest) == [], manifest["kind"]


@every_folder
def test_every_pod_is_one_that_kubernetes_accepts(folder: Any) -> None:
    # The definitions of KubeRay hold a copy of the schema of pods, of one release; this is that of Kubernetes itself.
    for manifest in rendered(folder):
        for template in pods(manifest):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", **template["metadata"]}}
            assert refusals({**pod, "spec": template["spec"]}) == [], manifest["kind"]


@every_folder
def test_the_rules_of_ray_pods_are_network_policies_that_kubernetes_accepts(folder: Any) -> None:
    for manifest in rendered(folder):
        spec = manifest.get("spec", {})
        ray = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
        for part in ("head", "worker") if "networkPolicy" in ray else ():
            given = ray["networkPolicy"][part]
            policy = {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": "made-by-kuberay"},
                "spec": {"podSelector": {}, "ingress": given["ingressRules"], "egress": given["egressRules"]},
            }
            assert refusals(policy) == []


def put(manifest: Manifest, path: str, value: Any) -> None:
    """Sets a value deep in a manifest; numbers are places in a list."""
    *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    here: Any = manifest
    for step in steps:
        here = here[step]
    here[last] = value


@pytest.mark.parametrize(
    ("kind", "path", "value", "said"),
    [
        ("RayJob", "spec.entripoint", "x", "'entripoint' was unexpected"),
        ("RayJob", "spec.backoffLimit", "two", "'two' is not of type 'integer'"),
        ("RayJob", "spec.preRunningDeadlineSeconds", 0, "less than the minimum"),
        ("RayJob", "spec.deletionStrategy.deletionRules", [], "non-empty"),
        ("RayJob", "spec.rayClusterSpec.headGroupSpec.template.spec.containers.0", {}, "'name' is a required property"),
        ("RayCluster", "spec.networkPolicy.mode", "DenyNothing", "is not one of ['DenyAll', 'DenyAllIngress'"),
        ("RayCluster", "spec.workerGroupSpecs.1.template.spec.tolerations", {}, "is not of type 'array'"),
        ("RayService", "spec.upgradeStrategy", {"clusterUpgradeOptions": {}}, "'gatewayClassName' is a required"),
        ("Deployment", "spec.template.spec.containers.0.args", "x", "is not of type 'array'"),
        ("Deployment", "spec.template.spec.container", [], "'container' was unexpected"),
        ("NetworkPolicy", "spec.egres", [], "'egres' was unexpected"),
        ("PodMonitor", "spec.podMetricsEndpoint", [], "'podMetricsEndpoint' was unexpected"),
    ],
)
def test_mistakes_are_seen(kind: str, path: str, value: Any, said: str) -> None:
    manifest = one(HOME[kind], kind)
    assert refusals(manifest) == []
    put(manifest, path, value)
    assert said in " ".join(refusals(manifest))


# For each CEL rule, by the end of its path: what breaks it. A rule that compares with an earlier state gets one.
MANAGER = {"ray": "ray.io/kuberay-operator", "kueue": "kueue.x-k8s.io/multikueue", "nobody": "example.com/nobody"}
NEVER = {"policy": "DeleteNone"}
FAILED: dict[str, Any] = {"policy": "DeleteCluster", "condition": {"jobStatus": "FAILED"}}
BREAKS: dict[str, tuple[Any, Any]] = {
    "the managedBy field is immutable": (MANAGER["kueue"], MANAGER["ray"]),
    "the managedBy field value must be either": (MANAGER["nobody"], None),
    "gcsFaultToleranceOptions.backend is immutable": ("redis", "rocksdb"),
    "legacy policies (onSuccess/onFailure) and deletionRules cannot be used together": (
        {"onSuccess": NEVER, "onFailure": NEVER, "deletionRules": [FAILED]},
        None,
    ),
    "deletionStrategy requires either BOTH onSuccess and onFailure": ({"onSuccess": NEVER}, None),
    "JobStatus and JobDeploymentStatus cannot be used together": (
        {"jobStatus": "FAILED", "jobDeploymentStatus": "Failed"},
        None,
    ),
    "the deletion condition requires either the JobStatus": ({"ttlSeconds": 60}, None),
}


def every_rule() -> list[Rule]:
    return [rule for kind in KINDS for rule in rules("ray.io", kind)]


def breaking(rule: Rule) -> tuple[Any, Any]:
    """The value that breaks a rule, and the one before it or None."""
    (found,) = (made for start, made in BREAKS.items() if rule.message.startswith(start))
    return found


def test_each_rule_of_the_operator_refuses_what_it_should() -> None:
    tried = every_rule()
    assert len(tried) == 17
    for rule in tried:
        value, before = breaking(rule)
        manifest, old = one(HOME[rule.kind], rule.kind), None
        path = rule.path.removeprefix(".").replace("[]", ".0")
        if "gcsFaultToleranceOptions" in path:
            put(manifest, path.rpartition(".")[0], {})
        if before is not None:
            put(manifest, path, before)
            old = manifest
            assert refusals(old) == []
            manifest = one(HOME[rule.kind], rule.kind)
            if "gcsFaultToleranceOptions" in path:
                put(manifest, path.rpartition(".")[0], {})
        put(manifest, path, value)
        # By exactly that rule: the schemas alone have nothing against it.
        assert [said.partition(": ")[2] for said in refusals(manifest, old)] == [rule.message]


def test_a_rule_that_compares_is_silent_where_nothing_was_before() -> None:
    manifest = one(HOME["RayCluster"], "RayCluster")
    put(manifest, "spec.managedBy", MANAGER["kueue"])
    assert refusals(manifest) == []
