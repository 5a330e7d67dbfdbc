"""The pods of a model have the environment of a service on one machine, and the secret of the proxies by a Secret."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from rendering import K8S, SITES, Manifest, cluster, one, pods, rendered

from serve.app import auth_of, limits_of
from serve.auth.environment import require_shared, shared
from serve.auth.settings import AuthSettings
from serve.limits.settings import SECRET, Limits
from serve.local import QUICK, STEADY
from serve.settings import Serving

MODEL, SITE = K8S / "overlays" / "cpu-model", SITES / "everything-model"
HOME = Path("/home/ray/assay")
every_model = pytest.mark.parametrize("folder", [MODEL, SITE], ids=lambda folder: folder.name)


def application(folder: Path) -> dict[str, Any]:
    config = yaml.safe_load(one(folder, "RayService")["spec"]["serveConfigV2"])
    return dict(config["applications"][0]["args"])


def settings(folder: Path) -> Manifest:
    return one(folder, "ConfigMap")


@every_model
def test_pods_of_a_model_have_what_a_service_on_one_machine_sets(folder: Path) -> None:
    given = settings(folder)["data"]
    limits, auth = Limits.from_json(given["ASSAY_SERVE_LIMITS"]), AuthSettings.from_json(given["ASSAY_SERVE_AUTH"])
    script = HOME / "serve" / "limits" / "haproxy.sh"
    here = {**shared(limits, auth, haproxy=True, script=script), **QUICK, **STEADY}
    texts = {"ASSAY_SERVE_LIMITS": given["ASSAY_SERVE_LIMITS"], "ASSAY_SERVE_AUTH": given["ASSAY_SERVE_AUTH"]}
    assert given == {**here, **texts}
    assert f"WORKDIR {HOME}" in (K8S / "Dockerfile").read_text()
    assert limits == limits_of(Serving.model_validate(application(folder)))


@every_model
def test_every_pod_of_a_model_has_them_and_no_other_pod(folder: Path) -> None:
    needed = [{"configMapRef": {"name": settings(folder)["metadata"]["name"]}}, {"secretRef": {"name": "assay-proxy"}}]
    found = pods(one(folder, "RayService"))
    assert len(found) == (2 if folder == MODEL else 3)
    for pod in found:
        (container,) = pod["spec"]["containers"]
        # Not optional: without the Secret, Kubernetes starts no container, and says why.
        assert container["envFrom"][-2:] == needed
    lasting = folder.with_name(folder.name.removesuffix("-model"))
    for pod in (pod for manifest in rendered(lasting) if cluster(manifest) for pod in pods(manifest)):
        assert "assay-proxy" not in str(pod)


@every_model
def test_the_secret_is_nowhere_but_in_its_secret(folder: Path) -> None:
    assert SECRET not in settings(folder)["data"]
    assert SECRET not in str(rendered(folder))
    assert SECRET not in (K8S / "Dockerfile").read_text()
    assert f"echo {SECRET}=" in (K8S / "README.md").read_text()


@every_model
def test_with_the_secret_a_replica_starts_and_without_it_none_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving = Serving.model_validate(application(folder))
    here = shared(Limits(), AuthSettings(), haproxy=True)["RAY_SERVE_HAPROXY_BINARY_PATH"]
    given = {**settings(folder)["data"], "RAY_SERVE_HAPROXY_BINARY_PATH": here}
    monkeypatch.setenv("ASSAY_SERVE_AUTH", given["ASSAY_SERVE_AUTH"])
    auth = auth_of(serving)
    require_shared({**given, SECRET: "a" * 64}, auth, public=serving.public)
    with pytest.raises(ValueError, match=SECRET):
        require_shared(given, auth, public=serving.public)


def test_a_site_says_in_its_own_words_who_may_call() -> None:
    assert AuthSettings.from_json(settings(SITE)["data"]["ASSAY_SERVE_AUTH"]).jwks
    assert settings(MODEL)["metadata"]["name"] != settings(SITE)["metadata"]["name"]
