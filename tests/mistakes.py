"""Errors that tests look at by their fields: wording is looked at in one place, ``messages.txt``."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from assay.errors import UserError

ANYTHING: Any = object()
"""In the place of a field that a test says nothing about."""


@contextmanager
def refused(
    kind: type[UserError], setting: str = ANYTHING, given: Any = ANYTHING, allowed: Any = ANYTHING
) -> Iterator[None]:
    """A block that must end with a user's mistake of this kind and with these fields."""
    with pytest.raises(kind) as caught:
        yield
    error = caught.value
    asked = {"setting": setting, "given": given, "allowed": allowed}
    told = {name: value for name, value in asked.items() if value is not ANYTHING}
    assert {name: getattr(error, name) for name in told} == told, str(error)
