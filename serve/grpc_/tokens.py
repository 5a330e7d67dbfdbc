"""The rule that callers need a token, as for the calls of HTTP."""

from dataclasses import dataclass

from serve.auth.authenticator import Authenticator
from serve.grpc_.authorising import Allowed, Metadata, Refusal, address_of, loopback_only
from serve.limits.refusals import text_of

SCOPE = "predict"
"""What a token must allow."""


@dataclass(frozen=True)
class Refused:
    """Why a call is refused."""

    status: int
    message: str


class TokenRule:
    """Rule by which callers prove themselves by ``authorization: Bearer TOKEN`` in the metadata of a call.

    Args:
        authenticator: knows the tokens.
        public: whether callers on other machines are answered.
    """

    def __init__(self, authenticator: Authenticator, *, public: bool) -> None:
        self._authenticator, self._public = authenticator, public

    async def __call__(self, metadata: Metadata, peer: str) -> Refusal | Allowed:
        """Judges a call.

        Args:
            metadata: of the call.
            peer: the caller, as gRPC writes it.

        Returns:
            The refusal, or who calls.
        """
        if not self._public and (elsewhere := loopback_only(metadata, peer)) is not None:
            return elsewhere
        given = [value for name, value in metadata if name == "authorization"]
        who = None
        if len(given) == 1 and isinstance(given[0], str):
            who = await self._authenticator.identity(given[0])
        if who is None:
            often = self._authenticator.failures.wait(address_of(peer))
            return Refused(429, text_of(429)) if often else Refused(401, text_of(401))
        if not who.may(SCOPE):
            return Refused(403, f"this token does not allow {SCOPE}; ask for one with the scope {SCOPE}")
        if self._authenticator.rates.wait(who.name):
            return Refused(429, "this token makes too many calls")
        return Allowed(who.name)
