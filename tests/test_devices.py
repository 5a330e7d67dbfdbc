"""How a GPU computes is set for as long as it matters, and no longer."""

import pytest
import torch

from assay.devices import device, on_cpu, repeatable
from assay.evaluations.attack_runs import FixedDraws
from assay.seeds import generators_kept

PLACES = (torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.cuda.matmul)


def settings() -> list[object]:
    cudnn = torch.backends.cudnn
    return [cudnn.deterministic, cudnn.benchmark, *(place.fp32_precision for place in PLACES)]


@pytest.mark.parametrize(("tf32", "convolved"), [(True, "tf32"), (False, "ieee")])
def test_a_gpu_repeats_itself_and_is_set_back(tf32: bool, convolved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    before = settings()
    with pytest.raises(KeyError), repeatable(tf32=tf32):
        assert settings() == [True, False, convolved, convolved, "ieee"]
        with repeatable(tf32=not tf32):
            assert settings()[2] != convolved
        assert settings()[2] == convolved
        raise KeyError
    assert settings() == before


def test_without_a_gpu_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = settings()
    with repeatable(tf32=False):
        assert settings() == before
    assert device() == torch.device("cpu")


def test_what_is_asked_for_the_cpu_stays_there_until_the_outermost_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with on_cpu(False):
        assert device().type == "cuda"
    with pytest.raises(KeyError), on_cpu():
        with on_cpu(False):
            assert device().type == "cpu"
        assert device().type == "cpu"
        raise KeyError
    assert device().type == "cuda"


def test_generators_are_put_back_without_a_look_at_gpus_that_nobody_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch warns where there are several, and warnings are errors here."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    before = torch.get_rng_state()
    with generators_kept():
        torch.rand(3)
    FixedDraws(torch.nn.Dropout(), 2, seed=0)(torch.rand(3, 2, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), before)
