"""Ray's own configuration of HAProxy, rendered from the template of the installed Ray without importing Ray."""

import runpy
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jinja2 import Environment

SPEC = find_spec("ray")
TEMPLATES = Path(next(iter(SPEC.submodule_search_locations)), "serve/_private/haproxy_templates.py")  # type: ignore[union-attr, arg-type]
Servers = Mapping[str, Sequence[int]]
"""Ports of the replicas of each application, by its prefix."""


def render(
    servers: Servers, *, port: int, folder: Path, stats: int, metrics: int, grpc: int | None = None, fallback: int = 0
) -> str:
    """Renders the configuration of Ray for applications on this machine."""
    found = runpy.run_path(str(TEMPLATES))
    environment = Environment()
    environment.filters["haproxy_fmt"] = lambda value: f'"{value}"'
    config = _config(port, folder, stats, metrics, grpc)
    backends = [
        SimpleNamespace(**_Absent(), name=_name(prefix), path_prefix=prefix, app_name=_name(prefix),
            ingress_deployment_name="d", ingress_request_router_servers=[],
            servers=[SimpleNamespace(name=f"r{at}", host="127.0.0.1", port=one) for at, one in enumerate(ports)],
            fallback_server=SimpleNamespace(name="fallback", host="127.0.0.1", port=fallback) if fallback else None,
        )
        for prefix, ports in sorted(servers.items(), key=lambda item: -len(item[0]))
    ]  # fmt: skip
    health = SimpleNamespace(
        healthy=True, status=200, health_message="success",
        routes_message="{}", routes_content_type="application/json",
    )  # fmt: skip
    values: dict[str, Any] = {"config": config, "backends": backends, "health_info": health, "route_info": health}
    check = SimpleNamespace(
        health_path="/-/healthz",
        default_server_directive="default-server fastinter 250ms downinter 250ms fall 2 rise 2 inter 5s check",
    )  # fmt: skip
    values["healthz_rules"] = environment.from_string(found["HAPROXY_HEALTHZ_RULES_TEMPLATE"]).render(values)
    values["grpc_healthz_rules"] = ""
    values["backends_with_health_config"] = [{"backend": one, "health_config": check} for one in backends]
    values["metrics_socket_path"] = config.metrics_socket_path
    return environment.from_string(found["HAPROXY_CONFIG_TEMPLATE"]).render(values) + "\n"


class _Absent(dict[str, None]):
    """The settings of a backend that Ray leaves unset."""

    def __init__(self) -> None:
        names = ("connect", "server", "client", "http_request", "queue", "http_keep_alive", "tunnel")
        super().__init__({f"timeout_{name}_s": None for name in names})


def _name(prefix: str) -> str:
    return "http-" + (prefix.strip("/").replace("/", "-") or "front")


def _config(port: int, folder: Path, stats: int, metrics: int, grpc: int | None) -> SimpleNamespace:
    return SimpleNamespace(
        log_target="127.0.0.1:514", socket_path=str(folder / "admin.sock"), maxconn=4096, nbthread=2, bufsize=16384,
        enable_hap_optimization=True, server_state_base=str(folder), server_state_file=str(folder / "state"),
        hard_stop_after_s=120, close_spread_time_s=None, grpc_enabled=grpc is not None,
        h2_max_frame_size=16384, h2_be_initial_window_size=65536, h2_be_max_concurrent_streams=100,
        h2_fe_initial_window_size=65536, h2_fe_max_concurrent_streams=100,
        grpc_frontend_host="127.0.0.1", grpc_frontend_port=grpc,
        timeout_connect_s=5, timeout_client_s=3600, timeout_server_s=None, timeout_http_request_s=None,
        timeout_http_keep_alive_s=90, timeout_queue_s=None, retry_on="conn-failure", retries=None, tcp_nodelay=True,
        error_file_path=str(folder / "500.http"), balance_algorithm="leastconn", metrics_port=metrics,
        metrics_uri="/metrics", frontend_host="127.0.0.1", frontend_port=port, metrics_enabled=True,
        metrics_socket_path=str(folder / "metrics.sock"), health_check_endpoint="/-/healthz", is_head=True,
        inject_process_id_header=False, reload_id=None, observe_mark_down_enabled=True, observe_error_limit=3,
        stats_port=stats, stats_uri="/stats",
    )  # fmt: skip
