"""What can go wrong, in words a user can act on.

A user's mistake is a ``UserError``: its message names the value given, what is allowed, and what to do.
Each carries one string, so it survives pickling when Ray carries it between processes.
"""


class UserError(ValueError):
    """Something the user gave cannot be used as it is."""


class SpecError(UserError):
    """A study file, a preset or a ``--set`` says something that no study can mean."""


class DataError(UserError):
    """A data file cannot be read, or what it holds cannot be evaluated."""


class CheckpointError(UserError):
    """A file of weights cannot be read, or does not fit the model."""


class IncompatibleRecipeError(UserError):
    """A recipe asks for two things that exclude each other."""


class LedgerError(UserError):
    """The ledger of a data set does not allow what is asked of it, or cannot be read or written."""


class BudgetError(LedgerError):
    """The budget of a ledger does not hold what was asked."""


class FederationError(RuntimeError):
    """A federated round lost a client or passed its deadline."""


class TrainingError(RuntimeError):
    """Training cannot go on: the loss or the weights are no longer finite."""
