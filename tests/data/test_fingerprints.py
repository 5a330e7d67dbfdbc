"""Hashes of records are equal where records are, in each process."""

import pickle

import numpy as np

from assay.data.fingerprints import Fingerprints

X = np.repeat(np.arange(12, dtype=np.float32).reshape(6, 2), 2, axis=0)
ROWS = np.arange(len(X))


def test_equal_records_have_equal_hashes() -> None:
    found = Fingerprints(X).of(ROWS)
    assert len(set(found.tolist())) == 6 and (found[::2] == found[1::2]).all()
    zero, minus_zero = Fingerprints(np.array([[0.0], [-0.0]])).of(np.arange(2))
    assert zero == minus_zero


def test_what_arrives_through_shared_memory_goes_on_with_the_records_that_are_not_known() -> None:
    """A worker of Ray has the arrays of what it is sent in memory that nobody can write."""
    here, buffers = Fingerprints(X), []
    here.of(ROWS[:3])
    content = pickle.dumps(here, protocol=5, buffer_callback=buffers.append)
    there = pickle.loads(content, buffers=[bytes(buffer.raw()) for buffer in buffers])
    assert there.of(ROWS).tolist() == here.of(ROWS).tolist()
