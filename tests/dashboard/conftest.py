"""One server and one browser for the tests of the page."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn

from assay.dashboard.app import create_app
from assay.dashboard.live import Live
from tests.studies import patients, raw, record, tiny, watcher

__all__ = ["patients", "raw", "record", "tiny", "watcher"]

TOKEN = "a-token-that-tests-alone-use"


class Server:
    """The dashboard in a thread of this process."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.live = Live([str(folder)])
        self.live.start()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        app = create_app(self.live, token=TOKEN, port=self.port)
        config = uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        app.state.stopping = lambda: self._server.should_exit
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            self._thread.join(0.01)
        self.address = f"http://localhost:{self.port}/?token={TOKEN}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.live.stop()
        self._socket.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """``serve(folder)`` starts the dashboard of a folder; it ends with the test."""
    started: list[Server] = []

    def start(folder: Path, port: int = 0) -> Server:
        started.append(Server(folder, port))
        return started[-1]

    yield start
    for server in started:
        server.stop()
