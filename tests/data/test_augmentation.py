"""Augmentation changes each record by itself, as its draws say, and only records of its kind."""

import numpy as np
import pytest
import torch
from torch import Tensor

from assay import seeds
from assay.data.augmentation import Flip, Jitter, RandomCrop, WordDropout
from assay.data.treatment import Treatment
from assay.errors import SpecError
from assay.models.mlp import MLP
from assay.recipes import Recipe, Training
from assay.registry import build
from assay.seeds import Draw
from assay.threats import Bounds
from assay.training.build import build_trainer

N = 400
IMAGES = torch.from_numpy(np.random.default_rng(0).random((N, 2, 6, 7), dtype=np.float32))
SIGNALS = torch.from_numpy(np.random.default_rng(1).normal(size=(N, 2, 500)).astype(np.float32))
TEXTS = torch.from_numpy(np.random.default_rng(2).integers(0, 9, (N, 12)).astype(np.int32))
EVERY = [
    pytest.param(Flip(), IMAGES, id="flip"),
    pytest.param(RandomCrop(pixels=2), IMAGES, id="crop"),
    pytest.param(RandomCrop(pixels=2, edge="zero"), IMAGES, id="crop zero"),
    pytest.param(Jitter(), SIGNALS, id="jitter"),
    pytest.param(WordDropout(probability=0.3), TEXTS, id="word_dropout"),
]


def draw(total: int = N, rows: np.ndarray | None = None, seed: int = 0) -> Draw:
    return Draw(seeds.stream(seed, "augment"), total=total, rows=rows)


@pytest.mark.parametrize(("treatment", "x"), EVERY)
def test_what_comes_out_depends_on_draws_alone_and_looks_like_what_went_in(treatment: Treatment, x: Tensor) -> None:
    before = x.clone()
    once, again, other = (treatment.augment(x, draw(seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(x, before)
    assert (once.shape, once.dtype) == (x.shape, x.dtype)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert not torch.equal(once, x)
    assert treatment.augments


@pytest.mark.parametrize(("treatment", "x"), EVERY)
def test_a_record_does_not_depend_on_others_nor_on_the_worker(treatment: Treatment, x: Tensor) -> None:
    assert treatment.per_record
    whole = treatment.augment(x, draw())
    own = np.arange(1, N, 3)
    assert torch.allclose(treatment.augment(x[own], draw(rows=own)), whole[own], rtol=1e-6)
    changed = x.clone()
    changed[0] = x[1]
    assert torch.allclose(treatment.augment(changed, draw())[1:], whole[1:], rtol=1e-6)


def test_about_half_of_the_images_are_mirrored_and_none_is_anything_else() -> None:
    found = Flip().augment(IMAGES, draw())
    mirrored = (found == IMAGES.flip(-1)).flatten(1).all(1)
    assert ((found == IMAGES).flatten(1).all(1) ^ mirrored).all()
    assert 0.4 < mirrored.float().mean() < 0.6
    assert torch.equal(Flip(probability=1).augment(IMAGES, draw()), IMAGES.flip(-1))
    assert torch.equal(Flip(probability=0).augment(IMAGES, draw()), IMAGES)


@pytest.mark.parametrize("edge", ["reflect", "zero"])
def test_a_crop_is_the_image_shifted_by_at_most_so_many_pixels(edge: str) -> None:
    found = RandomCrop(pixels=2, edge=edge).augment(IMAGES, draw())
    seen = set()
    for image, shifted in zip(IMAGES.numpy(), found.numpy(), strict=True):
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode="reflect" if edge == "reflect" else "constant")
        matches = [
            (down, across)
            for down in range(5)
            for across in range(5)
            if np.array_equal(padded[:, down : down + 6, across : across + 7], shifted)
        ]
        assert matches
        seen.update(matches)
    assert len(seen) == 25


def test_jitter_changes_gain_offset_and_noise_by_the_shares_given() -> None:
    spread = SIGNALS.std(-1, keepdim=True, correction=0)
    gain = Jitter(gain=0.2, offset=0, noise=0).augment(SIGNALS, draw()) / SIGNALS
    assert torch.allclose(gain, gain[:, :, :1], atol=1e-4)
    assert 0.79 < gain.min() < 0.82 and 1.18 < gain.max() < 1.21
    offset = (Jitter(gain=0, offset=0.5, noise=0).augment(SIGNALS, draw()) - SIGNALS) / spread
    assert torch.allclose(offset, offset[:, :, :1], atol=1e-4)
    assert offset.abs().max() < 0.501 and offset.std() > 0.25
    noise = (Jitter(gain=0, offset=0, noise=0.1).augment(SIGNALS, draw()) - SIGNALS) / spread
    assert abs(float(noise.std()) - 0.1) < 0.001
    assert abs(float(noise.mean())) < 0.001


def test_dropped_words_are_unknown_and_padding_stays() -> None:
    found = WordDropout(probability=0.3).augment(TEXTS, draw())
    changed = found != TEXTS
    assert (found[changed] == 1).all()
    assert not changed[TEXTS == 0].any()
    assert abs(float(changed[TEXTS > 1].float().mean()) - 0.3) < 0.02
    assert torch.equal(WordDropout(probability=0).augment(TEXTS, draw()), TEXTS)


@pytest.mark.parametrize(
    ("treatment", "x", "message"),
    [
        (
            Flip(),
            SIGNALS,
            r"flip takes images \(n, channels, height, width\), and .* the shape \(2, 500\)",
        ),
        (RandomCrop(), SIGNALS[:, 0], r"crop takes images .* shape \(500,\)"),
        (Jitter(), IMAGES, r"jitter takes signals \(n, channels, samples\), .* shape \(2, 6, 7\)"),
        (Jitter(), SIGNALS[:, 0], r"jitter takes signals"),
        (WordDropout(), IMAGES, r"word_dropout takes texts .* these records are \(2, 6, 7\) of float32"),
        (WordDropout(), SIGNALS[:, 0], r"these records are \(500,\) of float32"),
        (RandomCrop(pixels=6), IMAGES, r"pixels is 6, images have 6 × 7; shift by less"),
    ],
)
def test_records_of_another_kind_are_refused(treatment: Treatment, x: Tensor, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        treatment.augment(x, draw())


def test_a_study_file_knows_them() -> None:
    assert build("treatment", {"name": "crop", "pixels": 3}) == RandomCrop(pixels=3)
    with pytest.raises(SpecError, match="probability: Input should be less than 1"):
        build("treatment", {"name": "word_dropout", "probability": 1})


def test_training_sees_changed_records_that_are_still_valid() -> None:
    seen: list[Tensor] = []
    network = MLP(hidden=(4,)).build((2, 50), 2, seed=0)
    network.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    x = SIGNALS[:64, :, :50].clamp(-1, 1)
    recipe = Recipe(data=[Jitter(gain=0.5)], training=Training(epochs=2, batch_size=64))
    bounds = Bounds(low=torch.tensor(-1.0), high=torch.tensor(1.0))
    build_trainer(network, recipe, x, torch.arange(64) % 2, bounds=bounds, seed=0).run()
    assert all(batch.abs().max() <= 1 for batch in seen)
    assert not any((batch[:, None] == x).flatten(2).all(2).any() for batch in seen)
    assert not torch.equal(seen[0].sort(0).values, seen[-1].sort(0).values)
