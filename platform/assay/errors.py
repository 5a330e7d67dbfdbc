"""What can go wrong, in words a user can act on.

A user's mistake is a ``UserError``: its message names the value given, what is allowed, and what to do, and its fields
hold the same for programs and tests. All of it survives pickling when Ray carries an error between processes.
"""

from typing import Any


class UserError(ValueError):
    """Something the user gave cannot be used as it is.

    Args:
        message: the value given, what is allowed and what to do; shown to the user as it stands.
        setting: name of the setting, option, column, feature or file that the message is about.
        given: the value that was refused, or the figure that passed a limit.
        allowed: the limit, or the values that would be accepted.
    """

    def __init__(self, message: str, *, setting: str = "", given: Any = None, allowed: Any = None) -> None:
        super().__init__(message)
        self.setting = setting
        self.given = given
        self.allowed = allowed


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
