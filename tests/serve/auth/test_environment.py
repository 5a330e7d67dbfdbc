"""The variables of a service."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click import ClickException

from assay.errors import UserError
from serve.app import build_app
from serve.auth.environment import environment, require_shared, shared
from serve.auth.settings import AuthSettings
from serve.limits.settings import Limits


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as made:
        yield Path(made)


def test_processes_read_the_settings_that_were_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(body=7, hosts=("a", "b"), queued={"": 1, "explain": 2}, public=True)
    settings = AuthSettings(tokens="/t", jwt_scopes=("predict",), per_second=3)
    for name, value in environment(limits, settings, folder=folder, haproxy=True).items():
        monkeypatch.setenv(name, value)
    assert Limits.from_environment() == limits
    assert AuthSettings.from_environment() == settings
    assert os.access(os.environ["RAY_SERVE_HAPROXY_BINARY_PATH"], os.X_OK)
    ports = [value for name, value in os.environ.items() if name.startswith("RAY_SERVE_") and name.endswith("_PORT")]
    assert len(set(ports)) == 4


ASKED = AuthSettings(tokens="/results/access/tokens.json")
ON_A_CLUSTER = {
    **shared(Limits(public=True), ASKED, haproxy=True),
    "ASSAY_PROXY_SECRET": "s" * 32,
}


def test_a_machine_of_a_cluster_has_all_that_makes_limits_and_tokens_hold() -> None:
    require_shared(ON_A_CLUSTER, ASKED, public=True)
    # Settings that say less than all mean the same.
    require_shared({**ON_A_CLUSTER, "ASSAY_SERVE_LIMITS": '{"public": true}'}, ASKED, public=True)
    python_proxy = {**ON_A_CLUSTER, "RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_HAPROXY_BINARY_PATH": ""}
    require_shared(python_proxy, ASKED, public=True)


@pytest.mark.parametrize("name", ON_A_CLUSTER)
def test_without_one_of_the_variables_a_cluster_serves_nothing(name: str) -> None:
    for value in (None, "other"):
        given = {**{one: said for one, said in ON_A_CLUSTER.items() if one != name}, **({name: value} if value else {})}
        if name.startswith("ASSAY_SERVE_") and value:
            continue
        with pytest.raises(UserError, match=name) as caught:
            require_shared(given, ASKED, public=True)
        assert caught.value.setting == name
        assert "k8s/README.md" in str(caught.value)
        assert "ssssssss" not in str(caught.value)


def test_the_application_opens_nothing_that_the_proxies_do_not_know_of_and_the_other_way_round() -> None:
    with pytest.raises(UserError, match="public=true, the application public=false"):
        require_shared(ON_A_CLUSTER, ASKED, public=False)
    with pytest.raises(UserError, match=r"ASSAY_SERVE_AUTH says anyone=false, the application anyone=true"):
        require_shared(ON_A_CLUSTER, AuthSettings(anyone=True), public=True)
    open_to_all = {**ON_A_CLUSTER, "ASSAY_SERVE_AUTH": '{"anyone": true}'}
    with pytest.raises(UserError, match="ASSAY_SERVE_AUTH"):
        require_shared(open_to_all, ASKED, public=True)


def test_an_application_on_a_cluster_is_not_built_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    for name in ON_A_CLUSTER:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ClickException, match="RAY_SERVE_ENABLE_HA_PROXY"):
        build_app({"results": "results", "recipe": "standard", "tokens": "tokens.json"})


def test_machines_that_share_no_ids_accept_no_token_once() -> None:
    jwks = AuthSettings(jwks="/k.json", issuer="https://ehr.example", audience="assay")
    for settings in (jwks, replace(jwks, used_ids="/shared/used"), replace(jwks, single_use=False)):
        given = {**ON_A_CLUSTER, "ASSAY_SERVE_AUTH": settings.to_json()}
        if settings is jwks:
            with pytest.raises(UserError, match="give used_ids"):
                require_shared(given, settings, public=True)
        else:
            require_shared(given, settings, public=True)


def test_each_start_has_a_secret_of_its_own(folder: Path) -> None:
    made = [environment(Limits(), AuthSettings(), folder=folder, haproxy=True) for _ in range(2)]
    assert made[0]["ASSAY_PROXY_SECRET"] != made[1]["ASSAY_PROXY_SECRET"]


def test_a_folder_that_others_can_open_is_refused(folder: Path) -> None:
    folder.chmod(0o755)
    with pytest.raises(UserError, match="chmod 700"):
        environment(Limits(), AuthSettings(), folder=folder, haproxy=True)
    assert environment(Limits(), AuthSettings(), folder=folder, haproxy=False)["RAY_SERVE_ENABLE_HA_PROXY"] == "0"


def test_a_certificate_that_would_not_be_used_is_refused(folder: Path) -> None:
    limits = Limits(certificate="/c.pem")
    assert environment(limits, AuthSettings(), folder=folder, haproxy=True)
    with pytest.raises(UserError, match="without encryption"):
        environment(limits, AuthSettings(), folder=folder, haproxy=False)


def test_processes_of_a_service_share_the_ids_of_used_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = AuthSettings(jwks="https://keys.example/jwks", issuer="https://ehr.example", audience="assay")
    for name, value in environment(Limits(), settings, folder=folder, haproxy=True).items():
        monkeypatch.setenv(name, value)
    assert Path(AuthSettings.from_environment().used_ids).parent == folder


def test_a_path_too_long_for_sockets_is_refused(folder: Path) -> None:
    deep = folder / ("x" * 40)
    deep.mkdir(mode=0o700)
    with pytest.raises(UserError, match="at most 32 characters"):
        environment(Limits(), AuthSettings(), folder=deep, haproxy=True)


@pytest.mark.parametrize("value", ["[]", "{", '{"unknown": 1}', "7"])
def test_settings_that_cannot_be_read_are_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_SERVE_AUTH", value)
    monkeypatch.setenv("ASSAY_SERVE_LIMITS", value)
    with pytest.raises(UserError, match="must be a JSON object"):
        AuthSettings.from_environment()
    with pytest.raises(ValueError):
        Limits.from_environment()


@pytest.mark.parametrize(
    "given",
    [
        *({"body": 0}, {"body": True}, {"body": "1"}, {"client_authorities": "a"}),
        *({"queued": {}}, {"queued": {"": 0}}, {"queued": {"": 1, "x": 1}}),
    ],
)
def test_limits_out_of_range_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Limits(**given)  # type: ignore[arg-type]
