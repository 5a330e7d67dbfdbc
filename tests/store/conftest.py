"""Fixtures of small studies."""

from tests.studies import patients, raw, record, tiny, watcher

__all__ = ["patients", "raw", "record", "tiny", "watcher"]
