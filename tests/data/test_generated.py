"""Nobody's records: the same at every call, other ones for another draw, and a network can tell their classes."""

import numpy as np
from sklearn.linear_model import LogisticRegression

from assay.data.generated import Generated


def test_the_same_draw_gives_the_same_records_in_the_form_of_the_biopsies() -> None:
    first, again, other = Generated().load(), Generated().load(), Generated(draw=1).load()
    assert first.x.shape == (569, 30)
    assert first.digest == again.digest != other.digest
    assert not first.unpaid_preprocessing
    assert (first.low <= first.x).all() and (first.x <= first.high).all()
    np.testing.assert_allclose(first.x.mean(0), 0, atol=1e-5)


def test_its_classes_can_be_told_and_not_perfectly() -> None:
    data = Generated(size=1000, features=12).load()
    assert data.x.shape == (1000, 12)
    accuracy = LogisticRegression().fit(data.x[:700], data.y[:700]).score(data.x[700:], data.y[700:])
    assert 0.7 < accuracy < 0.99
