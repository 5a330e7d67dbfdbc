"""Records are shown where a licence lets everybody publish them, changed by an overlay, and nowhere else."""

from dataclasses import replace

import pytest

from assay.data.base import Dataset
from assay.evaluations.licences import is_public
from assay.registry import build


@pytest.fixture(scope="module")
def digits() -> Dataset:
    dataset: Dataset = build("dataset", "digits").load()  # type: ignore[attr-defined]
    return dataset


@pytest.mark.parametrize(
    ("licence", "open_to_all"),
    [
        ("CC BY 4.0", True),
        ("CC0", True),
        ("CC-BY-SA-4.0", True),
        ("ODC-By 1.0", True),
        ("none needed", True),
        ("drawn by Assay", True),
        ("unknown", False),
        ("", False),
        ("research use", False),
        ("none stated; published for research", False),
        ("ImageNet terms of access: research and education only", False),
        # Not everybody: a company may not.
        ("CC BY-NC 4.0", False),
        # An overlay is a changed copy.
        ("CC BY-ND 4.0", False),
        ("CC BY-NC-ND 4.0", False),
        ("cc-by-nd", False),
    ],
)
def test_only_open_licences_let_everybody_publish_records(digits: Dataset, licence: str, open_to_all: bool) -> None:
    assert is_public(replace(digits, licence=licence)) == open_to_all
