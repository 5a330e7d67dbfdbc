"""The page of the online models: its files, and what it must know of a model to ask it."""
