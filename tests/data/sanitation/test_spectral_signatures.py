"""Records of a second kind lie along the direction in which their class varies most."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.decomposition import PCA

from assay.data.poisoning.backdoor import Backdoor
from assay.data.sanitation.spectral_signatures import SpectralSignatures, outlier_scores
from assay.data.treatment import Treated
from assay.errors import SpecError
from assay.registry import build
from assay.training.loop import Trainer

Apply = Callable[..., Treated]


def planted(n: int = 400, gap: float = 6.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two classes of noise; a tenth of class 0 lies ``gap`` away along a direction of its own."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(n, 10)).astype(np.float32)
    y = np.arange(n) % 2
    foreign = (y == 0) & (np.arange(n) % 20 == 0)
    direction = np.ones(10, np.float32) / np.sqrt(10)
    return x + gap * foreign[:, None] * direction, y, foreign


def test_the_scores_are_those_of_the_first_principal_component() -> None:
    features = np.random.default_rng(1).normal(size=(50, 6)) * np.arange(1, 7) + 3
    expected = PCA(n_components=1).fit_transform(features)[:, 0] ** 2
    np.testing.assert_allclose(outlier_scores(features), expected, rtol=1e-8)


def test_planted_records_go_and_each_class_loses_one_and_a_half_times_the_share(apply: Apply, fixed: type) -> None:
    x, y, foreign = planted()
    found = apply([SpectralSignatures(share=0.1)], x, y, fit=fixed(lambda records: records))
    left = {row.tobytes() for row in found.x}
    gone = np.array([row.tobytes() not in left for row in x])
    assert foreign.sum() == 20
    assert (gone & foreign).sum() >= 19
    assert [(gone & (y == label)).sum() for label in (0, 1)] == [30, 30]


def test_without_a_second_kind_the_tails_go(apply: Apply, fixed: type) -> None:
    x, y, foreign = planted(gap=0.0)
    found = apply([SpectralSignatures(share=0.1)], x, y, fit=fixed(lambda records: records))
    left = {row.tobytes() for row in found.x}
    gone = np.array([row.tobytes() not in left for row in x])
    assert (gone & foreign).sum() <= 8


def test_a_network_that_learnt_a_trigger_betrays_the_records_that_bear_it(learn: Callable[..., Trainer]) -> None:
    generator = np.random.default_rng(0)
    y = np.arange(600) % 2
    x = (generator.normal(size=(600, 6)) + 3 * y[:, None] * (np.arange(6) < 3)).clip(-5, 8).astype(np.float32)
    backdoor, spectral = Backdoor(share=0.05, size=2), SpectralSignatures(share=0.1)
    treated = learn([backdoor, spectral], x, y, epochs=20).treated
    assert treated is not None
    assert treated.total.tampered == 30
    assert treated.total.removed_tampered >= 27


@pytest.mark.parametrize("share", [0, 0.67])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(SpecError, match="share"):
        build("treatment", {"name": "spectral_signatures", "share": share})
