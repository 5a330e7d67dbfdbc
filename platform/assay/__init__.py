"""Assay measures whether a deep-learning model is fit to support a clinical decision.

Read the packages in this order; no package imports a later one:

``vocabulary`` (the modules beside this file) → ``data`` → ``models`` → ``attacks`` → ``objectives`` →
``privacy``, ``training``, ``federated`` → ``explain`` → ``evaluations`` → ``study`` → ``report``;
``cluster`` sits on top and alone knows Ray.
"""

__version__ = "0.1.0"
