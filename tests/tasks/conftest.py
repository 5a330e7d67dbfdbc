"""Fixtures of subjects and of small studies."""

from tests.evaluations.conftest import make
from tests.studies import patients, raw, tiny

__all__ = ["make", "patients", "raw", "tiny"]
