"""A study file says what it means, or the error names the file, the key, the value and what is allowed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from assay.errors import DataError, SpecError
from assay.incompatible import INCOMPATIBLE
from assay.study.reading import build_study, read_study, settings_in
from assay.study.spec import Study, with_one_recipe
from tests.mistakes import refused

STUDIES = Path(__file__).parents[2] / "jobs" / "studies"
FILES = sorted(STUDIES.glob("*.yaml"))
TUNING = sorted(STUDIES.glob("tuning/*.yaml"))


@pytest.fixture
def file(tmp_path: Path, raw: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """Writes a study, changed at one place, as YAML."""

    def write(change: Callable[[dict[str, Any]], object] = lambda study: None, **settings: Any) -> Path:
        study = raw(**settings)
        change(study)
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump(study, allow_unicode=True, sort_keys=False), encoding="utf-8")
        return path

    return write


def read(path: Path | str, *assignments: str) -> Study:
    return read_study(str(path), assignments, folder=STUDIES)


def mistake(path: Path | str, *assignments: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        read(path, *assignments)
    return caught.value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_study_of_ours_can_be_read_by_name_and_by_path(path: Path) -> None:
    assert read(path.stem) == read(path)
    assert read(path).name == path.stem


@pytest.mark.parametrize(
    ("path", "preset"),
    [(path, preset) for path in FILES for preset in yaml.safe_load(path.read_text()).get("presets", {})],
    ids=str,
)
def test_every_preset_of_ours_can_be_read(path: Path, preset: str) -> None:
    assert read(path, f"preset={preset}") != read(path)


@pytest.mark.parametrize("path", TUNING, ids=lambda path: path.stem)
def test_studies_for_tuning_look_at_no_patient(path: Path) -> None:
    assert {cohort.dataset.name for cohort in read(path).cohorts.values()} <= {"generated", "vehicles", "digits"}


def test_privacy_has_every_budget_and_what_leaks_at_some() -> None:
    study = read("privacy")
    assert study.split.repeats == 5
    for name in ("wdbc", "xrays"):
        cohort = study.cohorts[name]
        budgets = [recipe.privacy and recipe.privacy.epsilon for recipe in cohort.recipes.values()]
        assert budgets == [None, 0.1, 0.5, 1, 2, 4, 8]
        assert {recipe.privacy.delta for recipe in cohort.recipes.values() if recipe.privacy} == {1e-5}
        asked = {
            (recipe, e.name) for one in cohort.selected_evaluations for recipe in one.recipes for e in one.evaluations
        }
        attacked = {("standard", "lira"), ("dp_eps_1", "lira"), ("dp_eps_8", "lira")}
        assert asked == attacked | {(recipe, "audit") for recipe in cohort.recipes if recipe != "standard"}


EQUAL_WORK = ("federated_iid", "federated_dirichlet", "fedavg_10_iid", "fedavg_5_iid")
"""Recipes whose time is compared with that of ``standard`` by a claim."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_federated_recipe_and_central_training_pass_over_the_data_equally_often(path: Path) -> None:
    for cohort in read(path).cohorts.values():
        for name in cohort.recipes.keys() & set(EQUAL_WORK):
            assert cohort.recipes[name].passes == cohort.recipes["standard"].passes


def test_the_federated_studies_have_the_whole_grid() -> None:
    for name, clients in (("federated_pneumonia", (2, 5, 10, 20)), ("federated_ecg", (2, 5, 10))):
        (cohort,) = read(name, "preset=full").cohorts.values()
        federations = {
            (each.strategy.name, each.personalisation is not None, each.partition, each.alpha, each.clients)
            for each in (recipe.federation for recipe in cohort.recipes.values())
            if each is not None
        }
        dealt = {("iid", 0.5), ("dirichlet", 0.5), ("dirichlet", 0.1)}
        methods = {("fedavg", False), ("fedprox", False), ("scaffold", False), ("fedavg", True)}
        grid = {(*method, *how, count) for method in methods for how in dealt for count in clients}
        # No draw with α = 0.1 leaves each of 10 clients one of 22 patients.
        impossible = {point for point in grid if name == "federated_ecg" and point[3:] == (0.1, 10)}
        assert federations >= grid - impossible and not federations & impossible
        assert len({(recipe.passes, recipe.training) for recipe in cohort.recipes.values()}) == 1


def test_a_study_survives_being_written_down(tiny: Callable[..., Study]) -> None:
    study = tiny({"standard": {}, "private": {"privacy": {"epsilon": 8}, "objective": {"name": "pgd", "epsilon": 0.1}}})
    assert build_study(yaml.safe_load(yaml.safe_dump(study.model_dump(mode="json"))), "again") == study


def test_a_study_without_the_usual_baseline_survives_too(tiny: Callable[..., Study]) -> None:
    study = tiny({"slow": {}})
    assert build_study(study.model_dump(mode="json"), "again") == study
    one = with_one_recipe(tiny(), cohort=None, recipe="slow", fold=1)
    assert build_study(one.model_dump(mode="json"), "again") == one


def at(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Puts a value at a place of a study."""

    def change(study: dict[str, Any]) -> None:
        for key in keys[:-1]:
            study = study.setdefault(key, {})
        study[keys[-1]] = value

    return change


MADE = ("cohorts", "made")
STANDARD = (*MADE, "recipes", "standard")


RADIUS = {"gt": 0}
MODELS = ["cnn", "imported", "lstm", "mlp"]


@pytest.mark.parametrize(
    ("change", "setting", "given", "allowed"),
    [
        (at("sed", value=1), "", "sed", ["name", "seed"]),
        (at("split", "fold", value=3), "split", "fold", ["folds", "repeats"]),
        (at("split", "folds", value=0), "split.folds", 0, {"ge": 1}),
        (at("split", "folds", value="many"), "split.folds", "many", "int_parsing"),
        (at("split", "validation", value=0.5), "split.validation", 0.5, {"lt": 0.5}),
        (at("name", value="../escape"), "name", "../escape", None),
        (at(*MADE, "recipes", "a[/b]", value={}), "cohorts.made.recipes.a[/b].[key]", "a[/b]", None),
        (at("cohorts", "a b", value={}), "cohorts.a b.[key]", "a b", None),
        (at("threads", value=0), "threads", 0, {"ge": 1}),
        (at(*MADE, "recipes", value={}), "cohorts.made.recipes", {}, None),
        (at(*MADE, "dataset", value="wdcb"), "cohorts.made.dataset.name", "wdcb", ["arrays", "wdbc"]),
        (at(*MADE, "dataset", value={"name": "arrays"}), "cohorts.made.dataset.path", {"name": "arrays"}, "missing"),
        (at(*MADE, "model", value="perceptron"), "cohorts.made.model.name", "perceptron", MODELS),
        (at(*MADE, "model", value={"name": "mlp", "hiden": [3]}), "cohorts.made.model", "hiden", ["name", "hidden"]),
        (at(*MADE, "model", value=3), "cohorts.made.model", 3, MODELS),
        (at(*MADE, "evaluations", value=["accuracy", "speed"]), "cohorts.made.evaluations.1.name", "speed", ["cost"]),
        (
            at(*MADE, "selected_evaluations", value=[{"recipes": ["quick"], "evaluations": ["cost"]}]),
            "cohorts.made.selected_evaluations", "quick", ["standard", "slow"],
        ),
        (
            at(*MADE, "selected_evaluations", value=[{"recipes": [], "evaluations": ["cost"]}]),
            "cohorts.made.selected_evaluations.0.recipes", [], None,
        ),
        (at(*MADE, "reference_epsilon", value=-1), "cohorts.made.reference_epsilon", -1, RADIUS),
        (at(*STANDARD, "objective", value="trades_"), "standard.objective.name", "trades_", ["pgd", "trades"]),
        (at(*STANDARD, "objective", value="pgd"), "standard.objective.epsilon", {"name": "pgd"}, "missing"),
        (at(*STANDARD, "training", "epochs", value=0), "standard.training.epochs", 0, {"ge": 1}),
        (at(*STANDARD, "training", "optimizer", value="lion"), "training.optimizer", "lion", ["'sgd'", "'adam'"]),
        (at(*STANDARD, "training", "learning_rate", value=float("nan")), "training.learning_rate", None, None),
        (at(*STANDARD, "privacy", value={"epsilon": 0}), "privacy.epsilon", 0, RADIUS),
        (at(*STANDARD, "privacy", value={"epsilon": 1, "delta": 1}), "privacy.delta", 1, {"lt": 1}),
        (
            at(*STANDARD, "privacy", value={"epsilon": 1, "noise": "none"}),
            "privacy.noise", "none", ["'seeded'", "'entropy'"],
        ),
        (at(*STANDARD, "federation", value={"clients": 0}), "federation.clients", 0, {"ge": 1}),
        (at(*STANDARD, "federation", value={"strategy": "fedsgd"}), "federation.strategy.name", "fedsgd", ["fedavg"]),
        (at(*STANDARD, "federation", value={"alpha": 0}), "federation.alpha", 0, RADIUS),
        (at(*STANDARD, "data", value=["label_flip"]), "standard.data.0.name", "label_flip", ["label_flips"]),
        (at(*STANDARD, "data", value=[{"name": "label_flips", "share": 1}]), "data.0.share", 1, {"lt": 1}),
    ],
)  # fmt: skip
def test_a_mistake_names_the_file_the_key_the_value_and_what_is_allowed(
    file: Callable[..., Path], change: Callable[[dict[str, Any]], None], setting: str, given: Any, allowed: Any
) -> None:
    """What is allowed: a list stands for some of the names; None for what the message alone says."""
    path = file(change)
    error = mistake(path)
    assert str(error).startswith(f"{path}: ")
    assert error.setting == setting or error.setting.endswith(f".{setting}")
    assert given is None or error.given == given
    if isinstance(allowed, list):
        assert all(
            name in (error.allowed if isinstance(error.allowed, list) else str(error.allowed)) for name in allowed
        )
    elif allowed is not None:
        assert error.allowed == allowed


@pytest.mark.parametrize(
    "change",
    [
        at(*MADE, "evaluations", value=[{"name": "robustness", "epsilons": [-0.1]}]),
        at(*MADE, "evaluations", value=[{"name": "membership", "false_positive_rates": [0]}]),
        at(*MADE, "model", value={"name": "mlp", "hidden": [-4]}),
        at("baseline", value="standrad"),
    ],
    ids=["negative radius", "rate of zero", "negative width", "unknown baseline"],
)
def test_what_no_study_can_mean_is_refused_before_it_runs(
    file: Callable[..., Path], change: Callable[[dict[str, Any]], None]
) -> None:
    mistake(file(change))


def test_a_reference_radius_must_be_one_that_is_measured(file: Callable[..., Path]) -> None:
    def change(study: dict[str, Any]) -> None:
        study["cohorts"]["made"]["reference_epsilon"] = 0.25
        study["cohorts"]["made"]["evaluations"] = [{"name": "robustness", "epsilons": [0.1, 0.3]}]

    error = mistake(file(change))
    assert (error.setting, error.given, error.allowed) == ("cohorts.made.reference_epsilon", 0.25, [0.1, 0.3])


def test_every_mistake_has_a_line_of_its_own(file: Callable[..., Path]) -> None:
    path = file(lambda study: (at("threads", value=0)(study), at("split", "folds", value=0)(study)))
    lines = str(mistake(path)).splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{path}: ") for line in lines)


def test_an_impossible_combination_says_why(file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.objectives.standard import Standard

    monkeypatch.setattr(Standard, "per_record", False)
    error = mistake(file(at(*STANDARD, "privacy", value={"epsilon": 8})))
    assert error.setting == "cohorts.made.recipes.standard"
    assert error.given == INCOMPATIBLE[0].what


@pytest.mark.parametrize(
    ("content", "allowed"),
    [
        (b"- a\n- list\n", "keys"),
        (b"just words", "keys"),
        (b"", "keys"),
        (b"name: [1, 2", "YAML"),
        (b"\xff\xfe\x00name: \x80", "YAML"),
        (b"a: !!python/object:os.system [x]", "YAML"),
    ],
)
def test_what_is_no_study_at_all_is_said_to_be_none(tmp_path: Path, content: bytes, allowed: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    error = mistake(path)
    assert error.setting == str(path)
    assert (error.allowed == "YAML") if allowed == "YAML" else {"name", "cohorts"} <= set(error.allowed)


def test_a_path_that_does_not_exist_is_named() -> None:
    error = mistake("nowhere/at_all.yaml")
    assert (error.setting, error.given) == ("study", "nowhere/at_all.yaml")


def test_an_unknown_name_lists_the_known_ones() -> None:
    error = mistake("quikstart")
    assert (error.setting, error.given, error.allowed) == ("study", "quikstart", [path.stem for path in FILES])


def test_presets_merge_deeply(file: Callable[..., Path]) -> None:
    slow = {"training": {"epochs": 9}}
    presets = {"smoke": {"split": {"repeats": 2}, "cohorts": {"made": {"recipes": {"slow": slow}}}}}
    found, plain = read(file(presets=presets), "preset=smoke"), read(file(presets=presets))
    assert (found.split.folds, found.split.repeats) == (2, 2)
    recipes = found.cohorts["made"].recipes
    assert (recipes["slow"].training.epochs, recipes["slow"].training.learning_rate) == (9, 0.001)
    assert recipes["standard"] == plain.cohorts["made"].recipes["standard"]
    assert plain.split.repeats == 1


def test_a_preset_may_add_a_recipe_and_replace_a_list(file: Callable[..., Path]) -> None:
    presets = {"more": {"cohorts": {"made": {"recipes": {"third": {}}, "evaluations": ["cost"]}}}}
    cohort = read(file(presets=presets), "preset=more").cohorts["made"]
    assert list(cohort.recipes) == ["standard", "slow", "third"]
    assert [evaluation.name for evaluation in cohort.evaluations] == ["cost"]


def test_what_is_set_outdoes_the_preset_in_whatever_order(file: Callable[..., Path]) -> None:
    path = file(presets={"smoke": {"split": {"folds": 4}}})
    for order in (("preset=smoke", "split.folds=3"), ("split.folds=3", "preset=smoke")):
        assert read(path, *order).split.folds == 3


def test_an_unknown_preset_lists_the_presets(file: Callable[..., Path]) -> None:
    path = file(presets={"smoke": {}, "full": {}})
    error = mistake(path, "preset=smok")
    assert (error.setting, error.given, error.allowed) == ("preset", "smok", ["full", "smoke"])
    assert mistake(file(), "preset=smoke").allowed == []


@pytest.mark.parametrize("presets", [["smoke"], "smoke", {"smoke": 3}, {"smoke": None}, {"smoke": ["seed"]}])
def test_presets_must_be_mappings(file: Callable[..., Path], presets: Any) -> None:
    for assignments in (["preset=smoke"], ["preset=smoke", "seed=3"]):
        error = mistake(file(presets=presets), *assignments)
        assert (error.setting, error.given) == ("presets", presets)


@pytest.mark.parametrize("assignment", ["preset=[smoke]", "preset={smoke: 1}"])
def test_a_preset_is_a_name(file: Callable[..., Path], assignment: str) -> None:
    assert mistake(file(presets={"smoke": {}}), assignment).setting == "preset"


def test_values_are_set_at_any_depth_and_read_as_yaml(file: Callable[..., Path]) -> None:
    found = read(
        file(),
        "split.folds=3",
        "cohorts.made.recipes.slow.training.epochs=7",
        "cohorts.made.recipes.slow.privacy={epsilon: 2}",
        "cohorts.made.model.hidden=[5, 6]",
        "title=a = b",
    )
    assert (found.split.folds, found.title) == (3, "a = b")
    slow = found.cohorts["made"].recipes["slow"]
    assert (slow.training.epochs, slow.privacy.epsilon) == (7, 2)
    assert found.cohorts["made"].model.hidden == (5, 6)


def test_setting_one_recipe_leaves_those_that_share_its_anchor_alone(file: Callable[..., Path]) -> None:
    training = {"epochs": 2, "batch_size": 16}

    def share(study: dict[str, Any]) -> None:
        for recipe in study["cohorts"]["made"]["recipes"].values():
            recipe["training"] = training

    path = file(share)
    assert "*id" in path.read_text()
    recipes = read(path, "cohorts.made.recipes.slow.training.epochs=7").cohorts["made"].recipes
    assert recipes["slow"].training.epochs == 7
    assert recipes["standard"].training.epochs == 2


@pytest.mark.parametrize(
    ("assignment", "setting", "given"),
    [
        ("split.folds", "--set", "split.folds"),
        ("=3", "--set", "=3"),
        ("split folds=3", "--set", "split folds=3"),
        ("seed=[1", "--set", "[1"),
        ("seed.deep=1", "--set", "seed.deep"),
        ("split.fold=3", "split", "fold"),
        ("cohorts.made.recipes.slow.training.epochs=none", "cohorts.made.recipes.slow.training.epochs", "none"),
    ],
)
def test_a_bad_assignment_is_named(file: Callable[..., Path], assignment: str, setting: str, given: str) -> None:
    error = mistake(file(seed=0), assignment)
    assert (error.setting, error.given) == (setting, given)


def test_one_recipe_of_one_cohort_can_be_singled_out(tiny: Callable[..., Study]) -> None:
    study = tiny()
    found = with_one_recipe(study, cohort=None, recipe="slow", fold=2)
    assert list(found.cohorts["made"].recipes) == ["slow"]
    assert found.cohorts["made"].recipes["slow"] == study.cohorts["made"].recipes["slow"]


@pytest.mark.parametrize(
    ("asked", "setting", "given", "allowed"),
    [
        ({"cohort": "mad", "recipe": "slow", "fold": 1}, "cohort", "mad", ["made"]),
        ({"cohort": None, "recipe": "fast", "fold": 1}, "recipe", "fast", ["standard", "slow"]),
        ({"cohort": "made", "recipe": "slow", "fold": 3}, "fold", 3, 2),
    ],
)
def test_what_cannot_be_singled_out_says_what_there_is(
    tiny: Callable[..., Study], asked: dict[str, Any], setting: str, given: Any, allowed: Any
) -> None:
    with refused(SpecError, setting, given, allowed):
        with_one_recipe(tiny(), **asked)


def test_the_first_cohort_that_has_the_recipe_is_taken(raw: Callable[..., dict[str, Any]]) -> None:
    study = raw()
    study["cohorts"]["other"] = {**study["cohorts"]["made"], "recipes": {"slow": {}, "rare": {}}}
    two = build_study(study, "two")
    assert list(with_one_recipe(two, cohort=None, recipe="slow", fold=1).cohorts) == ["made"]
    assert list(with_one_recipe(two, cohort="other", recipe="slow", fold=1).cohorts) == ["other"]
    assert list(with_one_recipe(two, cohort=None, recipe="rare", fold=1).cohorts) == ["other"]
    with refused(SpecError, "recipe", "standard", ["slow", "rare"]):
        with_one_recipe(two, cohort="other", recipe="standard", fold=1)


def test_a_setting_of_a_bare_name_is_a_setting_of_that_method(file: Callable[..., Path]) -> None:
    def bare(raw: dict[str, Any]) -> None:
        raw["cohorts"]["made"]["model"] = "mlp"
        raw["presets"] = {"wide": {"cohorts": {"made": {"model": {"hidden": [9]}}}}}

    path = file(bare)
    given = read_study(str(path), ("cohorts.made.model.hidden=[7]",), folder=path.parent)
    preset = read_study(str(path), ("preset=wide",), folder=path.parent)
    assert [study.cohorts["made"].model.hidden for study in (given, preset)] == [(7,), (9,)]


def test_a_setting_below_a_name_that_is_not_there_makes_nothing(file: Callable[..., Path]) -> None:
    """A misspelt recipe would be one more recipe, beside the one that was meant and is unchanged."""
    for key, given, allowed in (
        ("cohorts.made.recipes.standrad.training.epochs", "standrad", ["standard", "slow"]),
        ("cohorts.mad.seed", "mad", ["made"]),
    ):
        with refused(SpecError, "--set", given, allowed):
            read(file(), f"{key}=3")
    assert "more" in read(file(), "cohorts.made.recipes.more={training: {epochs: 3}}").cohorts["made"].recipes


def test_radii_may_be_fractions(file: Callable[..., Path]) -> None:
    path = file(at("cohorts", "made", "recipes", "standard", "objective", value={"name": "pgd", "epsilon": "8/255"}))
    assert read_study(str(path), folder=path.parent).cohorts["made"].recipes["standard"].objective.epsilon == 8 / 255


def test_immutable_features_belong_to_the_cohort(tiny: Callable[..., Study]) -> None:
    data = tiny(cohort={"immutable": ["feature 1"]}).cohorts["made"].load()
    assert data.immutable is not None
    assert np.flatnonzero(data.immutable).tolist() == [1]
    with pytest.raises(DataError, match="unknown feature 'age'; allowed: feature 0"):
        tiny(cohort={"immutable": ["age"]}).cohorts["made"].load()


TWICE = ("split: {folds: 2}\nsplit: {folds: 3}", "a: {b: 1, b: 2}", "a: &a [*a]", "a: &a {b: *a}")


@pytest.mark.parametrize("text", TWICE)
def test_a_key_that_stands_twice_or_an_anchor_that_holds_itself_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with refused(SpecError, str(path), allowed="YAML"):
        read_study(str(path), folder=tmp_path)
    with pytest.raises(yaml.YAMLError):
        settings_in(text)


def test_a_merged_key_may_be_said_anew() -> None:
    text = "a: &a {b: 1, c: 2}\nd: {<<: *a, b: 3}"
    assert settings_in(text) == {"a": {"b": 1, "c": 2}, "d": {"b": 3, "c": 2}}


@pytest.mark.parametrize("name", ["no", "3", "2020-01-01"])
def test_a_name_that_yaml_reads_as_something_else_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: a\ncohorts: {{w: {{dataset: wdbc, model: mlp, recipes: {{{name}: {{}}}}}}}}")
    with pytest.raises(SpecError, match="in quotes"):
        read_study(str(path), folder=tmp_path)


def test_what_a_mapping_says_itself_counts_however_often_it_is_merged() -> None:
    said = settings_in("a: &a {b: 1, c: 1}\nd: &d {<<: *a, b: 3}\ne: &e {<<: *d}\nf: {<<: *e, c: 5}")
    assert said == {"a": {"b": 1, "c": 1}, "d": {"b": 3, "c": 1}, "e": {"b": 3, "c": 1}, "f": {"b": 3, "c": 5}}


def test_a_key_that_was_renamed_still_works_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, raw: Callable[..., Any]
) -> None:
    asked = [{"recipes": ["slow"], "evaluations": ["cost"]}]
    old, new = raw(), raw()
    old["cohorts"]["made"]["sparing"] = new["cohorts"]["made"]["selected_evaluations"] = asked
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(old))
    found = read_study(str(tmp_path / "old.yaml"), folder=tmp_path)
    assert found.cohorts["made"].selected_evaluations[0].recipes == ("slow",)
    assert "sparing is called selected_evaluations now" in caplog.text
    assert found == build_study(new, "new") == build_study(old, "stored before")
    old["cohorts"]["made"]["selected_evaluations"] = asked
    with pytest.raises(SpecError, match="sparing and selected_evaluations are the same setting; leave sparing out"):
        build_study(old, "both")


def test_clinical_figures_at_two_prevalences_are_refused_and_never_averaged(raw: Callable[..., Any]) -> None:
    made = raw()
    asked = [{"name": "clinical", "prevalence": share} for share in (0.1, 0.01)]
    made["cohorts"]["made"]["evaluations"] = asked
    with pytest.raises(SpecError, match="is asked clinical 2 times"):
        build_study(made, "twice")
    made["cohorts"]["made"] |= {
        "evaluations": asked[:1],
        "selected_evaluations": [{"recipes": ["slow"], "evaluations": asked[1:]}],
    }
    with pytest.raises(SpecError, match="'slow' is asked clinical 2 times"):
        build_study(made, "twice, once selected")


def test_a_cohort_asks_all_its_recipes_alike(tiny: Callable[..., Any]) -> None:
    recipes = {"standard": {}, "private": {"privacy": {"epsilon": 2.0, "delta": 1e-3}}}
    for named, expected in ((recipes, False), ({"standard": {}}, True)):
        (cohort,) = tiny(named, cohort={"evaluations": ["explanations"]}).cohorts.values()
        for name in named:
            (asked,) = cohort.asked_of(name, fold=0, repeat=0)
            assert asked.from_training is expected


def test_a_cohort_that_would_compare_two_references_is_refused(tiny: Callable[..., Study]) -> None:
    recipes = {"standard": {}, "private": {"privacy": {"epsilon": 2.0, "delta": 1e-3}}}
    with pytest.raises(SpecError, match="from_training"):
        tiny(recipes, cohort={"evaluations": [{"name": "explanations", "from_training": True}]})


def test_a_stored_study_that_compared_two_references_is_read_but_not_run(raw: Callable[..., Any]) -> None:
    made = raw({"standard": {}, "private": {"privacy": {"epsilon": 2.0, "delta": 1e-3}}})
    made["cohorts"]["made"]["evaluations"] = [{"name": "explanations", "from_training": True}]
    stored = Study.model_validate(made)
    assert stored.model_dump(mode="json")["cohorts"]["made"]["evaluations"][0]["from_training"] is True
    with pytest.raises(SpecError, match="from_training"):
        stored.cohorts["made"].asked_of("private", fold=0, repeat=0)
