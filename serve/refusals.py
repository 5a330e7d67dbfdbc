"""The error of a request that cannot be answered."""


class RefusedError(Exception):
    """A request cannot be answered. The message says what is allowed and repeats nothing of the request.

    Args:
        message: what is wrong and what is allowed.
        status: HTTP status of the answer: 400 for a body that cannot be parsed, 415 for one of another type, 422 for
            records that the model does not take.
        reason: code for programs, such as ``age_outside``; empty where the status says enough.
    """

    def __init__(self, message: str, *, status: int = 422, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str], dict[str, object]]:
        return type(self), (str(self),), {"status": self.status, "reason": self.reason}
