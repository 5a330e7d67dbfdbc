"""A recipe is four independent choices; what cannot be combined is refused with a reason."""

import pickle
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ValidationError
from torch import Tensor, nn

from assay import errors
from assay.incompatible import INCOMPATIBLE
from assay.objectives.base import Batch, Objective
from assay.objectives.pgd import AdversarialPGD
from assay.objectives.standard import Standard
from assay.recipes import EarlyStopping, Federation, Privacy, Recipe, Training
from assay.registry import Settings, first_mistake


class Mixing(Objective):
    """Looks at the whole batch."""

    name: Literal["mixing"] = "mixing"

    @property
    def per_record(self) -> bool:
        return False

    def losses(self, model: nn.Module, batch: Batch, crafted: Tensor) -> Tensor:
        return (model(crafted) - model(crafted).mean(0)).square().sum(1)


def refused(settings: type[Settings] = Recipe, **given: Any) -> dict[str, Any]:
    """The fields of the error with which settings are refused."""
    with pytest.raises(ValidationError) as caught:
        settings(**given)
    return first_mistake(caught.value)


PRIVACY: dict[str, Any] = {"privacy": Privacy(epsilon=1.0)}
STOPPING: dict[str, Any] = {"training": {"early_stopping": {"epsilon": 0.1}}}
REFUSED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"objective": Mixing()}, PRIVACY),
    ({"objective": {"name": "interval_bounds", "epsilon": 0.1}}, PRIVACY),
    ({"data": ["knn_sanitation"]}, PRIVACY),
    ({"objective": {"name": "fast", "epsilon": 0.1}}, PRIVACY),
    (STOPPING, PRIVACY),
    ({"training": {"precision": "bf16"}}, PRIVACY),
    ({"objective": {"name": "interval_bounds", "epsilon": 0.1}}, {"training": Training(precision="bf16")}),
    (STOPPING, {"federation": Federation()}),
    ({"training": {"averaging": 0.9}}, {"federation": Federation()}),
    ({"objective": "distillation"}, {"federation": Federation(personalisation="fedper")}),
]


@pytest.mark.parametrize("place", range(len(REFUSED)))
def test_every_refusal_names_its_rule(place: int) -> None:
    choice, other = REFUSED[place]
    assert Recipe(**choice) != Recipe(**other)
    assert refused(**choice, **other)["given"] == INCOMPATIBLE[place].what


def test_every_rule_has_an_example_that_it_alone_refuses() -> None:
    for rule, (choice, others) in zip(INCOMPATIBLE, REFUSED, strict=True):
        asked = Recipe(**choice).model_copy(update=others)
        assert [other.what for other in INCOMPATIBLE if other.applies(asked)] == [rule.what]


def test_a_step_that_nobody_watches_is_private() -> None:
    recipe = Recipe(objective={"name": "fast", "epsilon": 0.1, "watch": None}, **PRIVACY)
    assert recipe.objective.watching is None


def test_flipped_labels_exclude_privacy_too() -> None:
    assert refused(data=["label_flips"], privacy=Privacy(epsilon=1.0))["given"] == INCOMPATIBLE[2].what


def test_the_librarys_readme_shows_every_rule_with_its_reason() -> None:
    text = (Path(__file__).parents[1] / "platform" / "assay" / "README.md").read_text().replace("`", "")
    for rule in INCOMPATIBLE:
        assert f"| {rule.what} | {rule.why.split(';')[0]} |" in text


def test_an_objective_that_mixes_records_is_free_otherwise() -> None:
    assert Recipe(objective=Mixing(), federation=Federation()).objective == Mixing()


def test_every_choice_combines_with_every_other() -> None:
    recipe = Recipe(
        objective={"name": "pgd", "epsilon": 0.1}, privacy=Privacy(epsilon=1.0), federation=Federation(clients=2)
    )
    assert recipe.objective == AdversarialPGD(epsilon=0.1)


def test_a_recipe_survives_json_and_pickle() -> None:
    recipe = Recipe(objective={"name": "pgd", "epsilon": 0.1, "steps": 3}, privacy=Privacy(epsilon=1.0))
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert pickle.loads(pickle.dumps(recipe)) == recipe


def test_copies_of_a_record_need_something_that_makes_them_differ() -> None:
    private = Privacy(epsilon=1.0, augmentations=8)
    assert refused(privacy=private) == {"setting": "privacy.augmentations", "given": 8, "allowed": 1}
    assert Recipe(privacy=private, data=["flip"]).privacy == private


@pytest.mark.parametrize("choice", [{"data": ["robust_reweighting"]}, {"objective": Mixing()}])
def test_what_looks_at_a_whole_batch_excludes_pieces_of_it(choice: dict[str, Any]) -> None:
    found = refused(**choice, training={"records_at_once": 32})
    assert found == {"setting": "training.records_at_once", "given": 32, "allowed": None}
    assert Recipe(**choice).training.records_at_once is None


@pytest.mark.parametrize(
    ("given", "at_once"),
    [
        ({"accumulate": 4}, 16),
        ({"accumulate": 3, "batch_size": 1000}, 334),
        ({"accumulate": 1, "batch_size": 1000}, None),
        ({"accumulate": 5, "batch_size": 5}, 1),
    ],
)
def test_a_batch_is_accumulated_in_so_many_pieces(given: dict[str, Any], at_once: int | None) -> None:
    training = Training(**given)
    assert training.records_at_once == at_once
    assert "accumulate" not in training.model_dump()


@pytest.mark.parametrize("pieces", [0, -1, 65, 1.5, "many", True, None])
def test_a_batch_has_at_least_one_record_in_each_piece(pieces: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        Recipe(training={"accumulate": pieces})
    assert first_mistake(caught.value) == {"setting": "training.accumulate", "given": pieces, "allowed": "1 to 64"}


def test_pieces_of_a_batch_are_counted_or_measured_but_not_both() -> None:
    found = refused(training={"accumulate": 2, "records_at_once": 8})
    assert found == {"setting": "training.accumulate", "given": 2, "allowed": "without records_at_once"}


@pytest.mark.parametrize("where", ["training", "privacy", "federation"])
@pytest.mark.parametrize("key", ["sampler", "sampling", "sample_rate", "batch_sampler"])
def test_nobody_chooses_how_records_are_sampled(where: str, key: str) -> None:
    settings: dict[str, Any] = {"training": {}, "privacy": {"epsilon": 1.0}, "federation": {}}
    settings[where] |= {key: "shuffle"}
    found = refused(**settings)
    assert (found["setting"], found["given"]) == (where, key)


def test_the_default_recipe_is_plain() -> None:
    assert Recipe().objective == Standard()
    assert Recipe().privacy is None
    assert Recipe().federation is None


@pytest.mark.parametrize("settings", [Recipe, Training, Federation, lambda **given: Privacy(epsilon=1.0, **given)])
def test_an_unknown_key_lists_the_allowed_ones(settings: type) -> None:
    found = refused(settings, epochz=3)
    assert (found["setting"], found["given"]) == ("", "epochz")
    assert len(found["allowed"]) > 2


@pytest.mark.parametrize(
    ("settings", "field", "value"),
    [
        (Training(), "epochs", 3),
        (Privacy(epsilon=1.0), "epsilon", 9.0),
        (Federation(), "rounds", 3),
        (Recipe(), "privacy", None),
    ],
)
def test_recipes_are_frozen(settings: object, field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        setattr(settings, field, value)
    assert [detail["type"] for detail in caught.value.errors()] == ["frozen_instance"]


@pytest.mark.parametrize(
    ("settings", "given"),
    [
        (Training, {"epochs": 0}),
        (Training, {"batch_size": 0}),
        (Training, {"learning_rate": 0.0}),
        (Training, {"learning_rate": float("nan")}),
        (Training, {"optimizer": "lion"}),
        (Training, {"momentum": 1.0}),
        (Training, {"weight_decay": -1e-3}),
        (Training, {"averaging": 1.0}),
        (Training, {"averaging": -0.1}),
        (Training, {"records_at_once": 0}),
        (Privacy, {}),
        (Privacy, {"epsilon": 0.0}),
        (Privacy, {"epsilon": -1.0}),
        (Privacy, {"epsilon": float("inf")}),
        (Privacy, {"epsilon": 1.0, "delta": 0.0}),
        (Privacy, {"epsilon": 1.0, "delta": 1.0}),
        (Privacy, {"epsilon": 1.0, "max_grad_norm": 0.0}),
        (Privacy, {"epsilon": 1.0, "noise": "none"}),
        (Privacy, {"epsilon": 1.0, "clipping": "batch"}),
        (Privacy, {"epsilon": 1.0, "augmentations": 0}),
        (EarlyStopping, {}),
        (EarlyStopping, {"epsilon": -0.1}),
        (EarlyStopping, {"epsilon": float("nan")}),
        (EarlyStopping, {"epsilon": 0.1, "patience": 0}),
        (EarlyStopping, {"epsilon": 0.1, "every": 0}),
        (EarlyStopping, {"epsilon": 0.1, "norm": "l1"}),
        (Federation, {"clients": 0}),
        (Federation, {"rounds": 0}),
        (Federation, {"local_epochs": 0}),
        (Federation, {"deadline_seconds": 0.0}),
    ],
)
def test_impossible_settings_are_refused(settings: type, given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**given)


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_pickling(kind: type[Exception]) -> None:
    fields = {"setting": "value", "given": 3, "allowed": 2} if issubclass(kind, errors.UserError) else {}
    error = pickle.loads(pickle.dumps(kind("value 3 is above the limit 2", **fields)))
    assert type(error) is kind
    assert str(error) == "value 3 is above the limit 2"
    assert {name: getattr(error, name) for name in fields} == fields


def test_a_users_mistake_is_a_value_error() -> None:
    assert all(
        issubclass(kind, ValueError)
        for kind in (errors.SpecError, errors.DataError, errors.CheckpointError, errors.IncompatibleRecipeError)
    )
