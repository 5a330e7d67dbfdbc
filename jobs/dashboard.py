"""Serve a live page over results: all studies and sweeps of some folders, as their trials come.

python -m jobs.dashboard --results results
"""

import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from jobs.console import console, count_of, run, user_errors


def main(
    results: Annotated[list[str] | None, typer.Option("--results", help="Folder or URI of results, or one that holds several. Repeatable; results by default.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 8050,
    host: Annotated[str, typer.Option(help="Address to listen at. Other than 127.0.0.1, others can reach it: then put TLS before it.")] = "127.0.0.1",
    name: Annotated[list[str] | None, typer.Option("--name", help="Name under which browsers ask for the page, where it is not this machine's own, such as that of a Service. Repeatable.")] = None,
    new_token: Annotated[bool, typer.Option("--new-token", help="Make a new token; addresses that were given out before stop working.")] = False,
) -> None:  # fmt: skip
    """Serve the dashboard on this machine. It reads results and changes none; end it with Ctrl-C.

    The token of the address is ASSAY_DASHBOARD_TOKEN, or one that is made once and stored for you alone.
    """
    with user_errors():
        from assay.dashboard.access import token_of
        from assay.dashboard.live import Live

        named = results or ["results"]
        live = Live(named)
        kept = _state() / "dashboard-token"
        token = token_of(kept, new=new_token)
        listening = _listen(host, port)
        live.start()
        console.print(
            f"{count_of(live.trials.count, 'trial')} in {count_of(len(live.folders), 'folder')} of results below "
            f"{', '.join(named)}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
        shown = name[0] if name else "localhost" if host in ("127.0.0.1", "::1", "0.0.0.0") else host
        told = _told(token, kept)
        console.print(f"dashboard: http://{shown}:{port}/?token={told}", highlight=False, soft_wrap=True)
        if host not in ("127.0.0.1", "::1"):
            console.print("others can reach this address; what they read is not encrypted without TLS", style="yellow")
    _serve(live, listening, token=token, port=port, hosts=tuple(name or ()))


def _told(token: str, kept: Path) -> str:
    """Returns the token as it is printed: never itself where others read the log, as that of a cluster's job."""
    from assay.dashboard.access import VARIABLE

    if os.environ.get(VARIABLE):
        return f"${VARIABLE}"
    return f"TOKEN, which {kept} on this machine holds" if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else token


def _listen(host: str, port: int) -> socket.socket:
    """Takes the port, before the trials are read; who asks before the server answers is served then.

    Raises:
        UserError: another process has it, or it may not be used.
    """
    from assay.errors import UserError

    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise UserError(
            f"port {port} of {host} cannot be used: {os.strerror(error.errno or 0).lower()}; is another dashboard "
            f"running? Give another port: --port {port + 1 if port < 65535 else port - 1}",
            setting="--port", given=port,
        ) from error  # fmt: skip
    return listening


def _state() -> Path:
    """Returns the folder in which this user's programs store what is no document."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "assay"


def _serve(live: object, listening: socket.socket, *, token: str, port: int, hosts: tuple[str, ...]) -> None:
    import uvicorn

    from assay.dashboard.app import create_app
    from assay.dashboard.live import Live

    assert isinstance(live, Live)
    app = create_app(live, token=token, port=port, hosts=hosts)
    # No access log: addresses hold the token.
    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2
    )
    server = uvicorn.Server(settings)
    app.state.stopping = lambda: server.should_exit
    try:
        server.run(sockets=[listening])
    finally:
        live.stop()


if __name__ == "__main__":
    run(main)
