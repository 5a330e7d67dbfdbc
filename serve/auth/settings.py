"""Settings of authentication, which every process that takes calls reads from one environment variable."""

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from assay.errors import UserError

VARIABLE = "ASSAY_SERVE_AUTH"
"""Environment variable with the settings as a JSON object."""
NO_TOKENS = "none"
"""In place of the file of tokens: no token is asked for."""
SCOPES = ("predict", "explain", "certify", "admin")
"""What a token may allow; ``admin`` allows everything, also loading and unloading models."""


@dataclass(frozen=True, kw_only=True)
class AuthSettings:
    """Who may call, and how often. Without ``tokens``, ``jwks`` and ``anyone``, nobody may."""

    anyone: bool = False
    """Whether calls need no token."""
    tokens: str = ""
    """File of the tokens; see ``serve.auth.tokens``."""
    jwks: str = ""
    """File, or https address, of the public keys (a JWK set) of those who issue JSON web tokens."""
    issuer: str = ""
    """Issuer that a JSON web token must name (``iss``)."""
    audience: str = ""
    """Audience that a JSON web token must name (``aud``): this service."""
    jwt_scopes: tuple[str, ...] = ("predict", "explain", "certify")
    """What a JSON web token allows at most; its claim ``scope`` may allow less."""
    single_use: bool = True
    """Whether a JSON web token must have an id (``jti``) and is accepted once, as CDS Hooks has it."""
    used_ids: str = ""
    """Folder in which all processes that share it note the ids of used tokens: on one machine Assay makes it, on a
    cluster name one that all machines share. Empty: each process notes its own."""
    per_second: float = 50.0
    """Calls a second that one token may make, over time; each process that takes calls counts its own."""
    burst: int = 200
    """Calls that one token may make at once after a pause."""
    failures_per_second: float = 5.0
    """Calls a second without a valid token from one address, over time; further ones get status 429."""

    def __post_init__(self) -> None:
        if self.anyone and (self.tokens or self.jwks):
            raise UserError("anyone may call, or those with tokens or jwks: give one of both", setting="anyone")
        if self.jwks and not (self.issuer and self.audience):
            raise UserError(
                "jwks names who issues tokens: give issuer and audience too, or tokens for other services are accepted",
                setting="jwks",
            )
        if unknown := set(self.jwt_scopes) - set(SCOPES):
            raise UserError(
                f"jwt_scopes has {', '.join(sorted(unknown))}; scopes are {', '.join(SCOPES)}",
                setting="jwt_scopes",
                given=sorted(unknown),
                allowed=SCOPES,
            )
        for name in ("per_second", "burst", "failures_per_second"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} must be above 0, not {getattr(self, name)}", setting=name)

    def to_json(self) -> str:
        """Returns the value of the environment variable that holds these settings."""
        return json.dumps(asdict(self))

    @classmethod
    def from_environment(cls) -> "AuthSettings":
        """Returns the settings of this process: those of the environment variable, or the defaults.

        Raises:
            UserError: the variable holds no JSON object, or an unknown setting.
        """
        return cls.from_json(os.environ.get(VARIABLE) or "{}")

    @classmethod
    def from_json(cls, text: str) -> "AuthSettings":
        """Reads settings.

        Args:
            text: JSON object; an absent setting takes its default.

        Raises:
            UserError: the text is no JSON object, or names an unknown setting.
        """
        known = {one.name for one in fields(cls)}
        try:
            given: Any = json.loads(text)
        except ValueError:
            given = None
        if not isinstance(given, dict) or not set(given) <= known:
            raise UserError(f"{VARIABLE} must be a JSON object with keys among {', '.join(sorted(known))}")
        return cls(**{**given, "jwt_scopes": tuple(given.get("jwt_scopes", cls.jwt_scopes))})


def chosen_auth(tokens: str | None) -> AuthSettings:
    """Returns who may call a service.

    Args:
        tokens: file of the tokens, or ``none``; None where the environment says it.

    Returns:
        The settings of the environment, with that file.
    """
    if tokens == NO_TOKENS:
        return AuthSettings(anyone=True)
    settings = AuthSettings.from_environment()
    return settings if tokens is None else replace(settings, tokens=tokens)
