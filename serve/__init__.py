"""The online model: prediction, explanation, certificate and evidence, on Ray Serve."""
