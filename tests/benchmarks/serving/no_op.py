"""Ray Serve's own cost: a deployment that answers without doing anything, behind Ray's Python proxy.

    python -m tests.benchmarks.serving.no_op PORT

It takes Ray's settings from our service, and none of our limits.
"""

import os
import sys
import time

from serve.start import QUICK


def main(port: int) -> None:
    """Serves until the process is ended.

    Args:
        port: of the service.
    """
    os.environ.update({**QUICK, "RAY_SERVE_ENABLE_HA_PROXY": "0"})
    from fastapi import FastAPI
    from ray import serve

    from assay.cluster.session import start_ray_here

    api = FastAPI()

    @api.post("/")
    async def answer() -> dict[str, bool]:
        return {"ok": True}

    start_ray_here(namespace="serve", num_cpus=16)
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": 60})
    deployment = serve.deployment(serve.ingress(api)(type("NoOp", (), {}))).options(
        max_ongoing_requests=64, logging_config={"enable_access_log": False}
    )
    serve.run(deployment.bind(), name="no_op", route_prefix="/")
    print(f"ready: http://localhost:{port}", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(int(sys.argv[1]))
