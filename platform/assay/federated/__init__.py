"""Federated learning, where data may not leave a hospital: Flower's strategies over the executor's workers."""

import os

# Flower reads it when it is imported, and would send usage figures to its maintainers.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
