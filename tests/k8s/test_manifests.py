"""The manifests agree with the code: versions, entry points, arguments; and nobody has more rights than it needs."""

import re
import shlex
from importlib import import_module, metadata
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from rendering import K8S, OVERLAYS, ROOT, SITES, Manifest, cluster, clusters, every_folder, one, pods, rendered

from assay.study.reading import read_study
from jobs.console import application

CPU, STUDY, MODEL = (K8S / "overlays" / name for name in ("cpu", "cpu-study", "cpu-model"))
DNS = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ],
    "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
}


def kinds(folder: Path) -> set[str]:
    return {manifest["kind"] for manifest in rendered(folder)}


def test_a_lasting_cluster_a_study_and_a_model_are_put_out_apart() -> None:
    # kubectl delete -k of a study must not delete the volume with everybody's results.
    lasting = {"RayCluster", "PersistentVolumeClaim", "Deployment", "Service", "NetworkPolicy"}
    expected = {
        "cpu": lasting,
        "a100": lasting,
        "cpu-study": {"RayJob", "NetworkPolicy"},
        "cpu-model": {"RayService", "ConfigMap"},
    }
    expected |= {"a100-study": expected["cpu-study"], "kind": lasting, "kind-study": expected["cpu-study"]}
    assert {folder.name: kinds(folder) for folder in OVERLAYS} == expected
    assert kinds(SITES / "everything-study") == {"RayJob", "NetworkPolicy"}


def test_the_common_pod_stands_once() -> None:
    texts = [file.read_text() for file in K8S.rglob("*.yaml")]
    once = ("runAsNonRoot: true", "automountServiceAccountToken: false", "drop: [ALL]}}\n", "mountPath: /results}]\n")
    for line in once:
        where = [text for text in texts if line in text]
        # The autoscaler's container is KubeRay's, and takes nothing from our pod.
        assert len(where) == (2 if "drop" in line else 1), line


@every_folder
def test_pods_have_no_rights_and_run_by_the_same_image(folder: Path) -> None:
    found = [pod for manifest in rendered(folder) for pod in pods(manifest)]
    assert found
    for pod in found:
        (container,) = pod["spec"]["containers"]
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert set(container["resources"]["limits"]) >= {"cpu", "memory"}
        assert pod["metadata"]["labels"]["app.kubernetes.io/name"] == "assay"
    assert len({pod["spec"]["containers"][0]["image"] for pod in found}) == 1


@every_folder
def test_results_lie_where_every_pod_reads_them(folder: Path) -> None:
    for pod in (pod for manifest in rendered(folder) for pod in pods(manifest)):
        (container,) = pod["spec"]["containers"]
        if folder.parent == SITES:
            assert container["envFrom"][0] == {"secretRef": {"name": "assay-s3"}}
            assert "volumeMounts" not in container
        else:
            claim = {"claimName": "assay-results"}
            reads = pod["metadata"]["labels"].get("app.kubernetes.io/component") == "dashboard"
            mount = {"name": "results", "mountPath": "/results"} | ({"readOnly": True} if reads else {})
            assert container["volumeMounts"] == [mount]
            assert {"name": "results", "persistentVolumeClaim": claim} in pod["spec"]["volumes"]


def test_only_the_autoscaler_has_a_token_of_the_kubernetes_api() -> None:
    for name, ray in clusters():
        (mount,) = ray["autoscalerOptions"]["volumeMounts"]
        assert mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount", name
        head = ray["headGroupSpec"]["template"]["spec"]
        (volume,) = (volume for volume in head["volumes"] if volume["name"] == mount["name"])
        sources = {key for source in volume["projected"]["sources"] for key in source}
        assert sources == {"serviceAccountToken", "configMap"}
        mounted = [m["name"] for container in head["containers"] for m in container.get("volumeMounts", ())]
        assert mount["name"] not in mounted
        workers = [group["template"]["spec"].get("volumes", ()) for group in ray["workerGroupSpecs"]]
        assert not [v for volumes in workers for v in volumes if "projected" in v]


def test_workers_come_and_go_and_the_head_computes_nothing() -> None:
    for name, ray in clusters():
        assert ray["enableInTreeAutoscaling"] is True, name
        assert ray["autoscalerOptions"]["version"] == "v2"
        assert ray["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        groups = {group["groupName"]: group for group in ray["workerGroupSpecs"]}
        assert set(groups) == ({"cpu"} if name.startswith(("cpu", "kind")) else {"cpu", "gpu"})
        for group in groups.values():
            assert (group["minReplicas"], group["maxReplicas"] > 0) == (0, True)
        # What needs no GPU starts no node with one.
        assert groups.pop("cpu")["priority"] > max((group.get("priority", 0) for group in groups.values()), default=0)


def test_workers_with_a_gpu_are_placed_on_nodes_that_have_one() -> None:
    gpus = [group for _, ray in clusters() for group in ray["workerGroupSpecs"] if group["groupName"] == "gpu"]
    assert len(gpus) == 5
    for group in gpus:
        spec = group["template"]["spec"]
        resources = spec["containers"][0]["resources"]
        assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == "1"
        assert "nvidia.com/gpu.product" in spec["nodeSelector"]
        assert "nvidia.com/gpu" in {toleration["key"] for toleration in spec["tolerations"]}


def test_tokens_are_demanded_and_the_ray_release_is_the_one_that_is_installed() -> None:
    for name, ray in clusters():
        assert ray["authOptions"] == {"mode": "token"}, name
        assert ray["rayVersion"] == metadata.version("ray")


def allowed(rules: list[Manifest]) -> list[tuple[Any, list[int]]]:
    """Addresses and ports that rules of egress allow, except DNS."""
    return [
        (peer.get("ipBlock", {}).get("cidr") or peer, [port["port"] for port in rule["ports"]])
        for rule in rules
        if rule != DNS
        for peer in rule["to"]
    ]


@every_folder
def test_nothing_leaves_but_questions_for_names_and_for_two_addresses_of_the_site(folder: Path) -> None:
    stated = dict(line.split("=") for line in (K8S / "base" / "site.env").read_text().split() if "=" in line)
    api, store = stated["API_SERVER"], stated["OBJECT_STORE"]
    objects = [(store, [443])] if folder.parent == SITES else []
    if folder.parent == SITES:
        api, objects = "10.0.0.1/32", [("10.0.0.2/32", [443])]
    for manifest in rendered(folder):
        if ray := cluster(manifest):
            policy = ray["networkPolicy"]
            assert policy["mode"] == "DenyAll"
            assert DNS in policy["head"]["egressRules"]
            assert DNS in policy["worker"]["egressRules"]
            assert allowed(policy["head"]["egressRules"]) == [(api, [443, 6443]), *objects]
            assert allowed(policy["worker"]["egressRules"]) == objects
        if manifest["kind"] == "NetworkPolicy":
            assert set(manifest["spec"]["policyTypes"]) == {"Ingress", "Egress"}
            head = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "assay", "ray.io/node-type": "head"}}}
            own = [(head, [8265])] if manifest["metadata"]["name"] == "assay-submitter" else objects
            assert allowed(manifest["spec"]["egress"]) == own


def test_until_the_site_is_described_no_address_outside_is_reached() -> None:
    # RFC 5737: addresses for documentation, which no network routes.
    stated = dict(line.split("=") for line in (K8S / "base" / "site.env").read_text().split() if "=" in line)
    for name in ("API_SERVER", "OBJECT_STORE"):
        assert ip_network(stated[name]).subnet_of(ip_network("192.0.2.0/24"))


def callers(rules: list[Manifest]) -> list[tuple[Any, list[int]]]:
    return [(peer, [port["port"] for port in rule["ports"]]) for rule in rules for peer in rule["from"]]


CLIENT = {"podSelector": {"matchLabels": {"assay.client": "true"}}}
OPERATOR = {
    "namespaceSelector": {},
    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}},
}


def test_only_clients_reach_the_model_and_the_dashboard_and_only_the_operator_the_head() -> None:
    def ingress(folder: Path, part: str) -> list[tuple[Any, list[int]]]:
        (ray,) = (found for manifest in rendered(folder) if (found := cluster(manifest)))
        return callers(ray["networkPolicy"][part]["ingressRules"])

    for folder in OVERLAYS:
        assert ingress(folder, "head") == [(OPERATOR, [8265, 8000])]
        assert ingress(folder, "worker") == ([(CLIENT, [8000])] if folder == MODEL else [])
    dashboard = one(CPU, "NetworkPolicy")["spec"]
    assert callers(dashboard["ingress"]) == [(CLIENT, [8080])]
    labels = one(CPU, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert dashboard["podSelector"]["matchLabels"].items() <= labels.items()
    assert "ingress" not in one(STUDY, "NetworkPolicy")["spec"]


def parsed(words: list[str]) -> dict[str, Any]:
    """What a job makes of its arguments; it ends the test if it refuses them."""
    python, flag, module, *arguments = words
    assert (python, flag) == ("python", "-m")
    found = import_module(module)
    command = typer.main.get_command(getattr(found, "app", None) or application(found.main))
    with command.make_context(module, list(arguments)) as context:
        return context.params


@pytest.mark.parametrize("folder", [STUDY, SITES / "everything-study"], ids=lambda folder: folder.name)
def test_the_job_runs_one_of_ours_and_keeps_its_results(folder: Path) -> None:
    given = parsed(shlex.split(one(folder, "RayJob")["spec"]["entrypoint"]))
    assert read_study(given["study"], folder=ROOT / "jobs" / "studies").name == given["study"]
    assert given["results"].startswith(("/results/", "s3://"))


@pytest.mark.parametrize(
    ("name", "root", "study", "arguments"),
    [
        ("cpu", "/results", "quickstart", []),
        ("kind", "/results", "quickstart", []),
        ("a100", "/results", "quickstart", ["--gpus-per-trial", "1"]),
        ("everything", "s3://hospital/results", "privacy", ["--set", "preset=laptop", "--gpus-per-trial", "0.5"]),
    ],
)
def test_where_results_lie_and_what_runs_are_variables_of_the_site(
    name: str, root: str, study: str, arguments: list[str]
) -> None:
    """An overlay sets them once: a path that was left in a manifest would be another place."""
    folder = (SITES if name == "everything" else K8S / "overlays") / name
    (container,) = one(folder, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["args"][:2] == ["--results", root]
    entrypoint = one(folder.with_name(f"{name}-study"), "RayJob")["spec"]["entrypoint"]
    wanted = ["python", "-m", "jobs.study", study, "--results", f"{root}/{study}", *arguments]
    assert shlex.split(entrypoint) == wanted
    if name in ("cpu", "everything"):
        served = yaml.safe_load(one(folder.with_name(f"{name}-model"), "RayService")["spec"]["serveConfigV2"])
        given = served["applications"][0]["args"]
        assert (given["results"], given["recipe"]) == (f"{root}/quickstart", "interval_bounds")


@every_folder
def test_variables_of_the_site_reach_kubernetes_in_their_places_alone(folder: Path) -> None:
    names = re.findall(r"^([A-Z_]+)=", (K8S / "base" / "site.env").read_text(), re.MULTILINE)
    assert set(names) >= {"RESULTS", "STUDY", "API_SERVER"}
    assert not [name for name in names if re.search(rf"\b{name}\b", str(rendered(folder)))]
    assert not {"site", "results-of-study"} & {manifest["metadata"]["name"] for manifest in rendered(folder)}


def test_a_study_asks_for_the_gpus_of_its_overlay_and_waits_for_machines_that_have_to_start() -> None:
    """Without workers there is no GPU to share: a study that does not ask for one would get CPUs alone."""
    from jobs.options import WAIT_FOR_WORKERS

    asked = {"cpu-study": None, "kind-study": None, "a100-study": 1.0}
    for name, gpus in asked.items():
        spec = one(K8S / "overlays" / name, "RayJob")["spec"]
        assert parsed(shlex.split(spec["entrypoint"]))["gpus"] == gpus, name
        (head,) = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
        waits = {item["name"]: item.get("value") for item in head["env"]}["ASSAY_WAIT_FOR_WORKERS"]
        assert WAIT_FOR_WORKERS < float(waits) < spec["activeDeadlineSeconds"]


def test_a_job_ends_in_any_case_and_its_cluster_goes() -> None:
    spec = one(STUDY, "RayJob")["spec"]
    assert spec["preRunningDeadlineSeconds"] < spec["activeDeadlineSeconds"]
    conditions = [rule["condition"] for rule in spec["deletionStrategy"]["deletionRules"]]
    ends = {item for condition in conditions for item in condition.items() if item[0] != "ttlSeconds"}
    assert ends == {("jobStatus", "SUCCEEDED"), ("jobStatus", "FAILED"), ("jobDeploymentStatus", "Failed")}
    assert spec["submitterPodTemplate"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("folder", [STUDY, SITES / "everything-study"], ids=lambda folder: folder.name)
def test_what_the_operators_refuse_beyond_their_definitions_is_not_there(folder: Path) -> None:
    # KubeRay's own validation: deletion rules exclude shutdownAfterJobFinishes, which Kueue and suspend demand.
    job = one(folder, "RayJob")
    spec, queued = job["spec"], "kueue.x-k8s.io/queue-name" in job["metadata"]["labels"]
    assert ("deletionStrategy" in spec, spec.get("shutdownAfterJobFinishes", False)) == (not queued, queued)
    assert spec.get("suspend", False) == queued
    assert len(job["metadata"]["name"]) <= 47
    # The autoscaler's second version needs pods that are never restarted, and wants to say so itself.
    ray = spec["rayClusterSpec"]
    for template in (ray["headGroupSpec"]["template"], *(group["template"] for group in ray["workerGroupSpecs"])):
        assert "restartPolicy" not in template["spec"]


def test_an_upgrade_in_steps_has_what_the_operator_demands() -> None:
    strategy = one(SITES / "everything-model", "RayService")["spec"]["upgradeStrategy"]
    steps = strategy["clusterUpgradeOptions"]
    assert strategy["type"] == "NewClusterWithIncrementalUpgrade"
    assert 0 < steps["stepSizePercent"] <= steps["maxSurgePercent"] <= 100
    assert steps["intervalSeconds"] > 0


def test_the_service_serves_our_application() -> None:
    from ray.serve.schema import ServeDeploySchema

    from serve.app import Serving

    said = yaml.safe_load(one(MODEL, "RayService")["spec"]["serveConfigV2"])
    here = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
    for config in (said, here):
        (application_,) = ServeDeploySchema.model_validate(config).applications
        module, _, builder = application_.import_path.partition(":")
        assert callable(getattr(import_module(module), builder))
        serving = Serving.model_validate(application_.args)
        study = read_study("quickstart", folder=ROOT / "jobs" / "studies")
        assert serving.recipe in study.cohorts["wdbc"].recipes
        assert config["http_options"]["request_timeout_s"] > 0
    assert here["http_options"]["host"] == "127.0.0.1"
    assert Serving.model_validate(said["applications"][0]["args"]).public


def test_the_dashboards_token_comes_from_a_secret() -> None:
    (container,) = one(CPU, "Deployment")["spec"]["template"]["spec"]["containers"]
    tokens = [one for one in container["env"] if one["name"] == "ASSAY_DASHBOARD_TOKEN"]
    assert tokens == [
        {"name": "ASSAY_DASHBOARD_TOKEN", "valueFrom": {"secretKeyRef": {"name": "assay-dashboard", "key": "token"}}}
    ]
    (port,) = container["ports"]
    assert container["args"][-2:] == ["--port", str(port["containerPort"])]
    (served,) = one(CPU, "Service")["spec"]["ports"]
    assert served["targetPort"] == port["name"] == container["readinessProbe"]["tcpSocket"]["port"]
    labels = one(CPU, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert one(CPU, "Service")["spec"]["selector"] == labels


def test_the_dashboard_takes_its_arguments() -> None:
    pytest.importorskip("jobs.dashboard")
    (container,) = one(CPU, "Deployment")["spec"]["template"]["spec"]["containers"]
    given = parsed([*container["command"], *container["args"]])
    assert (given["host"], given["port"]) == ("0.0.0.0", 8080)
    assert list(given["name"]) == [one(CPU, "Service")["metadata"]["name"]]


def test_metrics_are_read_from_the_monitoring_namespace_alone() -> None:
    everything = SITES / "everything"
    monitor = one(everything, "PodMonitor")["spec"]
    assert monitor["selector"]["matchLabels"] == {"app.kubernetes.io/name": "assay"}
    (ray,) = (found for manifest in rendered(everything) if (found := cluster(manifest)))
    namespace = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    for part in ("head", "worker"):
        assert (namespace, [8080]) in callers(ray["networkPolicy"][part]["ingressRules"])


def test_the_operator_is_installed_with_the_gates_that_the_manifests_need() -> None:
    gates = yaml.safe_load((K8S / "kuberay.yaml").read_text())["featureGates"]
    enabled = {gate["name"] for gate in gates if gate["enabled"]}
    # networkPolicy, deletionStrategy; the operator refuses a resource that uses what is off.
    assert {"RayClusterNetworkPolicy", "RayJobDeletionPolicy", "RayServiceIncrementalUpgrade"} <= enabled


def test_the_readme_names_every_overlay_and_component_and_no_other() -> None:
    text = (K8S / "README.md").read_text()
    for folder in OVERLAYS:
        assert f"`overlays/{folder.name}`" in text, folder.name
    named = set(re.findall(r"k8s/overlays/([\w-]+)", text))
    assert named <= {folder.name for folder in OVERLAYS}
    table = text.partition("## Components")[2].partition("##")[0]
    stated = {name for row in re.findall(r"^\| (`.+?) \|", table, re.M) for name in re.findall(r"`(\w+)`", row)}
    assert stated == {folder.name for folder in (K8S / "components").iterdir()}


def test_the_example_of_a_site_takes_every_component() -> None:
    taken = {
        Path(component).name
        for folder in SITES.iterdir()
        for component in yaml.safe_load((folder / "kustomization.yaml").read_text())["components"]
    }
    assert taken == {folder.name for folder in (K8S / "components").iterdir()} - {"volume"}
