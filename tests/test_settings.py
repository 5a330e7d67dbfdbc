"""A setting takes no value of another kind for its own, and an error names the setting."""

from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field, ValidationError

from assay.errors import SpecError
from assay.registry import Number, Settings, build
from assay.study.reading import build_study


class Some(Settings):
    whole: int = 1
    real: float = 0.5
    fraction: Annotated[Number, Field(ge=0)] = 0.0
    flag: bool = False
    maybe: int | None = None
    whole_or_word: int | str = 1
    many: tuple[Annotated[int, Field(ge=1)], ...] = ()
    radii: tuple[Annotated[Number, Field(ge=0)], ...] = ()
    pair: tuple[int, float] = (1, 0.5)
    by_name: dict[str, int] = Field(default_factory=dict)


REFUSED = [
    *(("whole", value) for value in ("yes", "no", "on", "3.0", "'3'", "1e3", "abc")),
    *(("real", value) for value in ("yes", "'0.5'", "8/255", "abc")),
    *(("fraction", value) for value in ("yes", "'0.5'", "off")),
    *(("flag", value) for value in ("1", "0", "'yes'", "1.0")),
    *(("maybe", value) for value in ("yes", "5.0", "'5'")),
    ("whole_or_word", "yes"),
    *(("many", value) for value in ("[1, yes]", "[2.0]", "['2']")),
    *(("radii", value) for value in ("[0.1, on]", "['0.1']")),
    *(("pair", value) for value in ("[yes, 0.5]", "[1.0, 0.5]", "[1, no]")),
    ("by_name", "{a: yes}"),
]
TAKEN: list[tuple[str, str, Any]] = [
    ("whole", "3", 3),
    ("real", "2", 2.0),
    ("real", "1e-3", 0.001),  # YAML leaves it as text, and nobody means a word
    ("real", "5.0e-1", 0.5),
    ("fraction", "8/255", 8 / 255),
    ("flag", "on", True),
    ("maybe", "null", None),
    ("maybe", "7", 7),
    ("whole_or_word", "seven", "seven"),
    ("many", "[1, 2]", (1, 2)),
    ("radii", "[0, 8/255, 0.1]", (0.0, 8 / 255, 0.1)),
    ("pair", "[2, 3]", (2, 3.0)),
    ("by_name", "{a: 2}", {"a": 2}),
]


@pytest.mark.parametrize(("setting", "text"), REFUSED)
def test_a_value_of_another_kind_is_refused_at_its_setting(setting: str, text: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Some.model_validate(yaml.safe_load(f"{setting}: {text}"))
    assert [error["loc"][0] for error in caught.value.errors()] == [setting]


@pytest.mark.parametrize(("setting", "text", "value"), TAKEN)
def test_a_value_of_its_kind_is_taken(setting: str, text: str, value: Any) -> None:
    assert getattr(Some.model_validate(yaml.safe_load(f"{setting}: {text}")), setting) == value


def test_a_study_with_yes_clients_is_refused_with_the_dotted_name() -> None:
    text = "{name: s, cohorts: {c: {dataset: digits, recipes: {fed: {federation: {clients: yes}}}}}}"
    with pytest.raises(SpecError) as caught:
        build_study(yaml.safe_load(text), "s.yaml")
    assert (caught.value.setting, caught.value.given) == ("cohorts.c.recipes.fed.federation.clients", True)


def test_a_method_with_a_number_in_quotes_is_refused_with_its_setting() -> None:
    with pytest.raises(SpecError) as caught:
        build("attack", {"name": "pgd", "steps": "7"})
    assert (caught.value.setting, caught.value.given) == ("steps", "7")
