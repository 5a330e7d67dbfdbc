"""Whether the loaded models answer their known records as when they were loaded."""

from serve.model import NoFiniteAnswerError
from serve.repository.loaded import Loaded


def check_models(loaded: Loaded) -> None:
    """Answers a known record with every version of every model, and compares the answer with that at the start.

    If one is another one, no call of any model is answered until all are right again.

    Args:
        loaded: the models.

    Raises:
        NoFiniteAnswerError: one answers otherwise than when it was loaded.
    """
    try:
        for one in loaded.online():
            one.model.check_self()
    except NoFiniteAnswerError as error:
        loaded.unfit = str(error)
        raise
    loaded.unfit = ""


def require_ready(loaded: Loaded) -> None:
    """Raises an error unless there are models, and all answer their known records as ``check_models`` demands.

    Args:
        loaded: the models.

    Raises:
        NoFiniteAnswerError: there is none, or one answers otherwise than when it was loaded.
    """
    if not loaded.names:
        raise NoFiniteAnswerError("no model is loaded")
    check_models(loaded)
