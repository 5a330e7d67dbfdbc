"""Serves two versions of a model by plain uvicorn, with gRPC beside it: ``server.py RESULTS``; prints both ports."""

import asyncio
import sys

import uvicorn

from assay.store.folder import Store
from assay.study.finished import open_finished
from serve.api import create_api
from serve.grpc_.server import start_grpc
from serve.repository.loaded import Loaded
from serve.repository.online import bring_online


async def work(results: str) -> None:
    """Serves until the process is ended."""
    finished = open_finished(Store(results), recipe="standard")
    loaded = Loaded([bring_online(finished, name="standard", version=version) for version in ("1", "2")])
    server = uvicorn.Server(
        uvicorn.Config(create_api(loaded, public=False), host="127.0.0.1", port=0, log_level="warning")
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.05)
    rest = server.servers[0].sockets[0].getsockname()[1]
    rpc = await start_grpc(loaded, "127.0.0.1", 0)
    print(rest, rpc.port, flush=True)
    await serving


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
