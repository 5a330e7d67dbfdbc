"""Attributions by class, interactions and surrogate trees against what is known of them."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.explain.base import NotFiniteError
from assay.explain.global_.by_class import by_class, by_word, contrasts, strongest
from assay.explain.global_.interactions import averaged_pairs, pair_values
from assay.explain.global_.surrogate import rules, surrogate_tree
from assay.explain.references import Reference


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


VALUES = np.array([[1.0, -1.0], [3.0, 1.0], [-2.0, 4.0], [-4.0, 0.0], [9.0, 9.0]])
TARGET = np.array([0, 0, 1, 1, 2])


def test_strength_and_direction_are_means_over_the_records_of_a_class() -> None:
    found = {(one.target, one.feature): one for one in by_class(VALUES, TARGET, generator=generator())}
    assert {key: (one.strength.value, one.direction.value) for key, one in found.items()} == {
        (0, 0): (2.0, 2.0),
        (0, 1): (1.0, 0.0),
        (1, 0): (3.0, -3.0),
        (1, 1): (2.0, 2.0),
    }, "a class of one record has no interval, and is left out"
    assert all(one.strength.low <= one.strength.value <= one.strength.high for one in found.values())


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    hits = 0
    for seed in range(150):
        values = generator(seed).exponential(size=(60, 1))
        (one,) = by_class(values, np.zeros(60, int), generator=generator(seed + 1000))
        hits += one.strength.low <= 1.0 <= one.strength.high
    assert 0.86 <= hits / 150 <= 0.99


def test_records_of_a_patient_count_together() -> None:
    values = np.repeat(generator().normal(size=(20, 1)), 8, axis=0)
    widths = []
    for clusters in (None, np.repeat(np.arange(20), 8)):
        (one,) = by_class(values, np.zeros(160, int), generator=generator(), clusters=clusters)
        widths.append(one.strength.high - one.strength.low)
    assert widths[1] > 2 * widths[0]


def test_features_that_matter_for_one_class_alone_are_found_and_others_are_not() -> None:
    target = np.arange(400) % 2
    values = generator().normal(size=(400, 10))
    values[target == 1, 3] *= 3
    found = contrasts(values, target)
    assert [one.feature for one in found if one.p_holm < 0.05] == [3]
    assert {one.target for one in found} == {1}
    assert found[3].difference.low > 0


def test_equal_classes_are_rarely_called_different() -> None:
    wrong = 0
    for seed in range(60):
        values = generator(seed).normal(size=(80, 8))
        wrong += any(one.p_holm < 0.05 for one in contrasts(values, np.arange(80) % 3))
    assert wrong <= 9


def test_copies_of_a_record_make_no_difference_surer() -> None:
    values, target = generator(4).normal(size=(30, 1)), np.arange(30) % 2
    values[target == 1] += 0.5
    plain = contrasts(values, target)[0].p
    copied = contrasts(np.repeat(values, 9, 0), np.repeat(target, 9), clusters=np.repeat(np.arange(30), 9))[0].p
    assert copied == pytest.approx(plain)


def test_a_patient_in_both_classes_counts_once() -> None:
    rarely, patients = 0, np.repeat(np.arange(12), 10)
    for seed in range(200):
        draw = generator(seed)
        target = draw.integers(2, size=120)
        of_patient = draw.normal(size=12)[patients]
        values = 5 + 3 * of_patient[:, None] * (2 * (patients[:, None] % 2) - 1) + draw.normal(size=(120, 1))
        # A patient has records mostly of one class, and own values: the classes themselves do not differ.
        target = np.where(draw.random(120) < 0.9, patients % 2, target)
        rarely += contrasts(values, target, clusters=patients)[0].p < 0.05
    assert rarely / 200 < 0.12


def test_the_strongest_come_first() -> None:
    assert strongest(np.array([[1.0, -5.0, 2.0], [1.0, 5.0, -2.0]]), 2) == [1, 2]


def test_words_of_few_texts_are_not_told() -> None:
    words = [["good", "fine"]] * 5 + [["good", "smith"]] * 4
    values = np.array([[2.0, 1.0]] * 5 + [[2.0, 9.0]] * 4)
    found = by_word(values, words, np.zeros(9, int), generator=generator())
    assert [(one.word, one.n, one.value.value) for one in found] == [("good", 9, 2.0), ("fine", 5, 1.0)]
    # Five texts of one patient are one.
    assert by_word(values[:5], words[:5], np.zeros(5, int), generator=generator(), clusters=np.zeros(5)) == []


class Products(nn.Module):
    """Log-odds of class 1: 2 a b + c."""

    def forward(self, x: Tensor) -> Tensor:
        score = 2 * x[:, 0] * x[:, 1] + x[:, 2]
        return torch.stack([torch.zeros_like(score), score], dim=1)


ZEROS = Reference(modality="tabular", background=torch.zeros(1, 4), source="zeros")
PLACE = torch.arange(4)


def test_a_product_interacts_and_a_sum_does_not() -> None:
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    values = pair_values(Products(), x, torch.ones(6, dtype=torch.int64), ZEROS, PLACE, [0, 1, 2, 3])
    expected = np.zeros((6, 4, 4))
    expected[:, 0, 1] = expected[:, 1, 0] = (2 * x[:, 0] * x[:, 1]).numpy()
    assert values == pytest.approx(expected, abs=1e-6)
    pairs = averaged_pairs(values, generator=generator())
    assert len(pairs) == 6
    first = pairs[0]
    assert (first.first, first.second) == (0, 1)
    assert first.strength.value == pytest.approx(float((2 * x[:, 0] * x[:, 1]).abs().mean()), abs=1e-6)
    assert first.direction.value == pytest.approx(float((2 * x[:, 0] * x[:, 1]).mean()), abs=1e-6)


def test_features_that_are_not_asked_for_keep_the_records_own_values() -> None:
    class Three(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            score = x[:, :3].prod(1) + x[:, 1] * x[:, 2]
            return torch.stack([torch.zeros_like(score), score], dim=1)

    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    values = pair_values(Three(), x, torch.ones(5, dtype=torch.int64), ZEROS, PLACE, [0, 2])
    assert values[:, 0, 1] == pytest.approx(x[:, :3].prod(1).numpy(), abs=1e-6)


def test_inputs_of_one_column_act_together() -> None:
    x = torch.tensor([[2.0, 3.0, 5.0, 1.0]])
    together = pair_values(
        Products(), x, torch.ones(1, dtype=torch.int64), ZEROS, torch.tensor([0, 0, 1, 2]), [0, 1, 2]
    )
    assert together == pytest.approx(np.zeros((1, 3, 3)), abs=1e-6)


def test_numbers_that_are_none_are_refused() -> None:
    model = nn.Linear(4, 2)
    nn.init.constant_(model.bias, float("nan"))
    with pytest.raises(NotFiniteError):
        pair_values(model, torch.ones(2, 4), torch.ones(2, dtype=torch.int64), ZEROS, PLACE, [0, 1])
    with pytest.raises(ValueError, match="13 features"):
        pair_values(
            model, torch.ones(2, 13), torch.ones(2, dtype=torch.int64), ZEROS, torch.arange(13), list(range(13))
        )


def test_a_tree_learns_a_model_that_is_a_tree() -> None:
    x = generator().uniform(-1, 1, size=(500, 3))

    def model(records: np.ndarray) -> np.ndarray:
        return np.where(records[:, 1] > 0.25, 1, np.where(records[:, 2] > -0.5, 0, 2))

    tree = surrogate_tree(x, model(x), depth=2)
    others = generator(1).uniform(-1, 1, size=(2000, 3))
    assert (tree.answers(others) == model(others)).mean() > 0.98
    assert tree.leaves == 3
    lines = rules(tree, ["a", "b (mm)", "c"], ["no", "yes", "perhaps"])
    assert lines[0].startswith("if b (mm) ≤ 0.2")
    assert [line.split("(")[0].strip() for line in lines if "answer" in line] == [
        "answer perhaps",
        "answer no",
        "answer yes",
    ]


def test_the_tree_that_is_measured_is_the_one_that_is_printed() -> None:
    x = generator().normal(size=(300, 2)) * [1.0, 1000.0]
    tree = surrogate_tree(x, (x @ [1.0, 1e-3] > 0).astype(int), depth=3, digits=2)
    lines = rules(tree, ["a", "b"], ["no", "yes"])

    def read(record: np.ndarray, level: int = 0, start: int = 0) -> str:
        """Follows the printed lines."""
        line = lines[start].strip()
        if line.startswith("answer"):
            return line.split()[1]
        name, limit = line.removeprefix("if ").removesuffix(":").split(" ≤ ")
        other = next(n for n in range(start + 1, len(lines)) if lines[n] == "  " * level + "else:")
        goes_left = record["ab".index(name)] <= float(limit)
        return read(record, level + 1, start + 1 if goes_left else other + 1)

    limits = [line.split(" ≤ ")[1].removesuffix(":") for line in lines if "≤" in line]
    assert len(limits) > 1 and all(float(limit) == float(f"{float(limit):.2g}") for limit in limits)
    names = np.array(["no", "yes"])
    assert [read(record) for record in x[:60]] == names[tree.answers(x[:60])].tolist()


def test_no_leaf_is_a_single_record_and_equal_answers_share_one() -> None:
    x = generator().normal(size=(100, 3))
    answers = np.zeros(100, int)
    answers[0] = 1
    tree = surrogate_tree(x, answers, depth=8)
    assert (tree.leaves, tree.asks) == (1, False)
    with pytest.raises(ValueError, match="20 or more"):
        surrogate_tree(x[:19], answers[:19], depth=2)
