"""Global explanations: what a model does over many records."""
