"""Names and settings: what is unknown or impossible is said in words that help."""

from typing import Literal

import pytest
from pydantic import Field, ValidationError

from assay import registry
from assay.attacks.pgd import PGD
from assay.errors import SpecError
from assay.models.mlp import MLP
from assay.registry import Method, Settings, as_number, build, choice_of, names, register
from tests.mistakes import refused


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))


def test_an_unknown_name_lists_the_known_ones_and_the_nearest() -> None:
    with refused(SpecError, "name", "pdg", names("attack")):
        build("attack", "pdg")


def test_a_name_like_no_other_suggests_nothing() -> None:
    with pytest.raises(SpecError) as caught:
        build("attack", "zzz")
    assert "Did you mean" not in str(caught.value)


def test_an_unknown_setting_lists_the_known_ones() -> None:
    with refused(SpecError, "", "step", list(PGD.model_fields)):
        build("attack", {"name": "pgd", "step": 3})


def test_an_impossible_value_is_named_with_its_setting() -> None:
    with refused(SpecError, "steps", 0, {"ge": 1}):
        build("attack", {"name": "pgd", "steps": 0})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_settings_are_finite(value: float) -> None:
    with refused(SpecError, "relative_step", allowed="finite_number"):
        build("attack", {"name": "pgd", "relative_step": value})


@pytest.mark.parametrize("choice", [3, None, ["pgd"], {"steps": 3}])
def test_what_names_no_method_is_refused(choice: object) -> None:
    with refused(SpecError, "", choice, names("attack")):
        build("attack", choice)


def test_a_name_a_mapping_and_a_method_are_the_same_choice() -> None:
    assert build("attack", "pgd") == build("attack", {"name": "pgd"}) == build("attack", PGD()) == PGD()
    assert build("attack", {"name": "pgd", "steps": 7}) == PGD(steps=7)


def test_a_method_of_another_kind_is_refused() -> None:
    with refused(SpecError, "", MLP(), names("objective")):
        build("objective", MLP())


def test_a_name_is_registered_once() -> None:
    class Mine(Method):
        name: Literal["pgd"] = "pgd"

    with pytest.raises(AssertionError, match="attack 'pgd' is registered twice"):
        register("attack")(Mine)
    assert isinstance(build("attack", "pgd"), PGD)


def test_registering_the_same_class_again_changes_nothing() -> None:
    assert register("attack")(PGD) is PGD


def test_the_same_name_may_stand_for_several_kinds() -> None:
    assert "pgd" in names("attack")
    assert "pgd" in names("objective")


def test_a_new_method_can_be_named_at_once() -> None:
    @register("attack")
    class Mine(Method):
        name: Literal["mine"] = "mine"

    assert build("attack", "mine") == Mine()
    assert names("attack") == sorted(names("attack"))


def test_settings_are_frozen_and_keyword_only() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        PGD().steps = 3  # type: ignore[misc]
    with pytest.raises(TypeError):
        PGD(3)  # type: ignore[call-arg, misc]


def test_a_chosen_method_is_written_out_in_full() -> None:
    class Holder(Settings):
        attack: choice_of("attack") = Field(default="pgd")  # type: ignore[valid-type]

    held = Holder(attack={"name": "pgd", "steps": 3})  # type: ignore[arg-type]
    assert held.model_dump()["attack"] == PGD(steps=3).model_dump()
    assert Holder.model_validate_json(held.model_dump_json()) == held
    assert Holder().attack == PGD()


@pytest.mark.parametrize(
    ("written", "meant"), [("8/255", 8 / 255), (" 0.5 / 255 ", 0.5 / 255), (0.1, 0.1), ("0.1", "0.1"), ("1/0", "1/0")]
)
def test_a_fraction_is_the_number_that_it_is(written: object, meant: object) -> None:
    assert as_number(written) == meant
