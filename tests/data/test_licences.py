"""Records are shown where a licence lets everybody publish them, changed by an overlay, and nowhere else."""

import pytest

from assay.data.licences import lets_everybody_publish


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
def test_only_open_licences_let_everybody_publish_records(licence: str, open_to_all: bool) -> None:
    assert lets_everybody_publish(licence) == open_to_all
