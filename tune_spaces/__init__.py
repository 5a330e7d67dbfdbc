"""Search spaces: each module says which recipe it varies, what it asks, and returns a Tune space.

Keys of a space are settings of a recipe, dotted as in ``--set``: ``objective.epsilon``.
"""
