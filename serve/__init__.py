"""The online service of a model: predictions, explanations, certificates and its card, on Ray Serve."""
