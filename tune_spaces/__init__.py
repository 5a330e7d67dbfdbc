"""Search spaces: each module names the recipe that it varies and its evaluations, and returns a Tune space.

Keys of a space are settings of a recipe, dotted as in ``--set``: ``objective.epsilon``.
"""
