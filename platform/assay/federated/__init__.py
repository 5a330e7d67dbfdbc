"""Federated learning, where data may not leave a hospital: Flower's strategies over the executor's workers."""
