"""The ledger from the command line: release, export, erase, and what each refuses."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from assay.evaluations.base import OwnTraining
from assay.executors import LocalExecutor
from assay.ledger import Ledger
from assay.ledger.account import ReleaseRequest
from assay.ledger.experiments import Processing
from assay.release.charge import charge_of_own
from assay.release.keeper import Keeper
from assay.store.folder import Store
from assay.study.reading import build_study
from assay.study.run import run_study
from assay.study.spec import Study
from assay.training.checkpoints import read_weights
from jobs.ledger import app

PRIVATE = {"epsilon": 2.0, "delta": 1e-3, "noise": "entropy"}
BUDGET = ("--budget", "2", "--delta", "1e-3")
QUICK = {"epochs": 2, "batch_size": 20}


class Silent:
    """A watcher that says nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **settings: None


def study_of(paths: list[Path], recipes: dict[str, Any], evaluations: list[str]) -> Study:
    """One cohort of each file of records."""
    cohort: dict[str, Any] = {
        "model": {"name": "mlp", "hidden": [4]},
        "evaluations": evaluations,
        "recipes": {name: {"training": QUICK, **recipe} for name, recipe in recipes.items()},
    }
    arrays = {"name": "arrays", "low": -4, "high": 5, "public_preprocessing": True}
    names = ("made", *(path.stem for path in paths[1:]))
    cohorts = {
        name: {"dataset": {**arrays, "path": str(path)}, **cohort} for name, path in zip(names, paths, strict=True)
    }
    return build_study({"name": "tiny", "split": {"folds": 2}, "cohorts": cohorts}, "tiny.yaml")


def conduct(
    folder: Path,
    recipes: dict[str, Any],
    *evaluations: str,
    until: str = "",
    publish: bool = False,
    more: tuple[Path, ...] = (),
) -> None:
    study = study_of([folder.parent / "patients.npz", *more], recipes, ["accuracy", "privacy", *evaluations])
    store = Store(str(folder))
    keeper = Keeper(
        folder.parent / "ledger", results=str(folder), processing=Processing(purpose="to learn", until=until)
    )
    run_study(
        study, store, LocalExecutor(), watcher=Silent(), keeper=keeper,
        publish=lambda data: store.write_text("report.html", "<p>an older page</p>") if publish else None,
        environment={"git_commit": "none", "platform": "", "cpus": 1, "memory_gb": 1, "gpus": 0},
    )  # fmt: skip


@pytest.fixture(scope="module")
def conducted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Studies of sixty records of twenty patients: one of everything, one of nothing but what may be released."""
    root = tmp_path_factory.mktemp("root")
    generator = np.random.default_rng(0)
    y = np.arange(60) // 3 % 2
    x = (generator.normal(size=(60, 4)) + y[:, None]).clip(-4, 5).astype(np.float32)
    np.savez(root / "patients.npz", x=x, y=y, groups=np.array([f"P{row // 3}" for row in range(60)]))
    private = {"private": {"privacy": PRIVATE}}
    conduct(
        root / "mixed", {"standard": {}, "seeded": {"privacy": {**PRIVATE, "noise": "seeded"}}, **private}, publish=True
    )
    conduct(root / "clean", {"private": {"privacy": {**PRIVATE, "max_grad_norm": 0.5}}}, publish=True)
    return root


@pytest.fixture
def root(conducted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the studies and of their ledger, which knows them by the place of the copy."""
    for name in ("ASSAY_LEDGER", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    copy = Path(shutil.copytree(conducted, tmp_path / "root"))
    with Ledger(next((copy / "ledger").glob("*.sqlite")))._file.writing() as db:
        for table in ("experiments", "trainings"):
            db.execute(f"UPDATE {table} SET results = replace(results, ?, ?)", (str(conducted), str(copy)))
    return copy


def ledger_of_patients(root: Path) -> Path:
    """Of the records that all studies have."""
    (mark,) = (root / "clean" / "ledgers").iterdir()
    return next(path for path in (root / "ledger").glob("*.sqlite") if path.stem[-8:] == mark.stem[:8])


def ledger_at(root: Path) -> Ledger:
    (path,) = (root / "ledger").glob("*.sqlite")
    return Ledger(path)


def said(*arguments: object, code: int = 0) -> str:
    """What the job prints, in one line."""
    done: Result = CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)
    text = re.sub(r"\s+", " ", done.output)
    assert done.exit_code == code, text
    return text


def test_a_release_charges_once_and_is_shown_with_its_purpose(root: Path) -> None:
    release = (
        "release",
        root / "clean",
        "--recipe",
        "private",
        *BUDGET,
        "--purpose",
        "triage",
        "--legal-basis",
        "consent",
    )
    first = said(*release)
    assert "1 released, by the RDP filter" in first
    assert said(*release) == first
    assert ledger_at(root).account().released <= 2.0
    shown = said("show", root / "clean")
    for words in ("clean · made · private · fold 1 released", "consent triage", "budget 2", "patients: 60 records"):
        assert words in shown
    assert "8 experiments: 6 private, 8 finished" in shown
    for place in ("clean", "mixed"):
        assert f"counts what was trained with results in {root / place}" in shown
    assert f"counts only with --ledger {root / 'ledger'} or ASSAY_LEDGER" in shown
    assert "ε for one patient at δ" in shown and "the patient with 3 records" not in shown


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("mixed", "--recipe", "standard"), "nothing bounds what it reveals"),
        (("mixed", "--recipe", "seeded"), "its noise is seeded"),
        (("mixed", "--recipe", "private", "--best"), "4 of 6 trials may not be released"),
        (("mixed", "--recipe", "privat"), "unknown recipe"),
        (("clean",), "Missing option '--recipe'"),
        (("clean", "--recipe", "private", "--until", "soon"), "write it as 2031-12-31"),
        (("clean", "--recipe", "private", "--until", "2020-01-01"), "--until 2020-01-01 is over, and today is"),
        (("clean", "--recipe", "private", "--best", "--declared"), "exclude each other"),
        (("clean", "--recipe", "private", "--delta", "0.1"), "not below 1/n"),
    ],
)
def test_what_may_not_be_released_is_refused_with_the_reason(root: Path, arguments: tuple[str, ...], why: str) -> None:
    results, *rest = arguments
    assert why in said("release", root / results, *BUDGET, *rest, code=2)
    assert all(held.state == "trained" for held in ledger_at(root).account().charges)
    assert ledger_at(root).budgets() == []


def test_a_claim_that_failed_is_not_released(root: Path) -> None:
    path = root / "patients.npz"
    study = study_of([path], {"private": {"privacy": PRIVATE}}, ["accuracy", "privacy"])
    raw = study.model_dump(mode="json")
    raw["cohorts"]["made"]["dataset"]["public_preprocessing"] = False
    unpaid = build_study(raw, "unpaid.yaml")
    run_study(
        unpaid,
        Store(str(root / "unpaid")),
        LocalExecutor(),
        watcher=Silent(),
        publish=lambda data: None,  # type: ignore[arg-type]
    )
    assert "no ε was charged for it" in said("release", root / "unpaid", "--recipe", "private", *BUDGET, code=2)


def test_beyond_the_budget_nothing_leaves(root: Path, tmp_path: Path) -> None:
    said("release", root / "clean", "--recipe", "private", *BUDGET)
    export = ("export", root / "mixed", "--recipe", "private", "--to", tmp_path / "given")
    refusal = said(*export, code=2)
    for words in ("budget is ε = 2", "is spent (1 released)", "mixed · made · private · fold 1 asks ε ="):
        assert words in refusal
    assert not (tmp_path / "given").exists()
    assert "give --reason" in said(*export, "--budget", "5", code=2)
    said(*export, "--budget", "5", "--reason", "the board agreed")
    assert (tmp_path / "given" / "model.safetensors").is_file()


def test_choosing_the_best_charges_all_that_were_looked_at(root: Path) -> None:
    refusal = said("release", root / "clean", "--recipe", "private", "--best", *BUDGET, code=2)
    assert "2 trials asks" in refusal
    said("release", root / "clean", "--recipe", "private", "--best", "--budget", "4", "--delta", "1e-3")
    assert sum(bool(held.released) for held in ledger_at(root).account().charges) == 2


def test_a_release_names_the_ledger_that_the_study_has_used_and_begins_no_other(root: Path) -> None:
    release = ("release", root / "clean", "--recipe", "private", *BUDGET)
    refusal = said(*release, "--ledger", root / "elsewhere", code=2)
    assert "the ledger of patients was" in refusal and "would forget what was spent" in refusal
    assert not (root / "elsewhere").exists()
    said(*release)


def test_a_declared_plan_is_composed_by_pld(root: Path) -> None:
    declared = ("release", root / "clean", "--recipe", "private", "--declared")
    assert "1 released, by PLD of the plan of 2 trials" in said(*declared, "--budget", "4", "--delta", "1e-3")
    assert "2 released, by PLD" in said(*declared, "--fold", "2")


def test_an_exported_model_carries_its_claim_and_nothing_of_its_training(root: Path, tmp_path: Path) -> None:
    export = ("export", root / "clean", "--recipe", "private", *BUDGET)
    assert "not covered: ε covers the training records" in said(*export, "--to", tmp_path / "given")
    claim = json.loads((tmp_path / "given" / "claim.json").read_text())
    (trial,) = claim["trials"]
    assert 0 < trial["epsilon"] <= 2.0 and trial["delta"] == 1e-3
    together = claim["released_together"]
    assert (together["releases"], together["epsilon"]) == (1, float(BUDGET[1]))
    assert together["bounded_by"] == f"bounded by the budget of ε = {BUDGET[1]}"
    content = (tmp_path / "given" / "model.safetensors").read_bytes()
    assert b"losses" not in content and b"worker_seconds" not in content
    store = Store(str(root / "clean"))
    (own,) = [i for i, asked in store.asked().items() if (asked["fold"], asked["recipe_name"]) == (0, "private")]
    model = store.trainings()[own]
    assert b"losses" in (store.checkpoint(model) or b"")
    kept = read_weights(str(root / "clean" / "artefacts" / f"{model}.safetensors"))
    given = read_weights(str(tmp_path / "given" / "model.safetensors"))
    assert all(np.array_equal(kept[name], given[name]) for name in kept) and kept.keys() == given.keys()
    # To somebody else: it is known already, and a folder is never written over.
    assert "is not empty" in said(*export, "--to", tmp_path / "given", code=2)
    said(*export, "--to", tmp_path / "second")
    (held,) = [held for held in ledger_at(root).account().charges if held.released]
    assert [where.split(",")[0] for where in held.departures] == [
        f"exported to {tmp_path / name}" for name in ("given", "second")
    ]


def test_a_report_leaves_only_if_every_trial_in_it_may(root: Path, tmp_path: Path) -> None:
    export = ("export", root / "mixed", "--report", "--to", tmp_path / "page", "--budget", "9", "--delta", "1e-3")
    refusal = said(*export, code=2)
    assert "4 of 6 trials may not be released" in refusal and "standard" in refusal and "seeded" in refusal
    assert ledger_at(root).budgets() == []
    said("export", root / "clean", *export[2:])
    page = (tmp_path / "page" / "report.html").read_text()
    assert "an older page" not in page and "<b>2</b> of <b>2</b> trials finished" in page
    claimed = json.loads((tmp_path / "page" / "claim.json").read_text())
    released = {(held.training, held.artefact) for held in ledger_at(root).account().charges if held.released}
    store = Store(str(root / "clean"))
    assert {(store.trainings()[one["trial"]], one["weights"]) for one in claimed["trials"]} == released
    assert {one["trial"] for one in claimed["trials"]} == store.finished()
    assert claimed["released_together"]["releases"] == 2


def test_a_report_leaves_only_if_all_that_the_study_plans_is_stored_and_nothing_else(
    root: Path, tmp_path: Path
) -> None:
    export = ("export", root / "clean", "--report", "--to", tmp_path / "page", "--budget", "9", "--delta", "1e-3")
    one, other = sorted((root / "clean" / "trials").iterdir())
    kept = one.rename(root / one.name)
    assert "1 of 2 trials have not finished" in said(*export, code=2)
    foreign = next(path for path in (root / "mixed" / "trials").iterdir() if _is_private(root, path.stem))
    model = Store(str(root / "mixed")).trainings()[foreign.stem]
    for path in (foreign, root / "mixed" / "artefacts" / f"{model}.safetensors"):
        shutil.copy(path, root / "clean" / path.parent.name)
    kept.rename(one)
    assert "holds 1 trials that the study does not plan" in said(*export, code=2)
    (root / "clean" / "trials" / foreign.name).unlink()
    store = Store(str(root / "clean"))
    models = store.trainings()
    store.write_checkpoint(models[other.stem], store.checkpoint(models[one.stem]) or b"")
    assert "its weights are not those that were measured" in said(*export, code=2)
    assert not (tmp_path / "page").exists() and ledger_at(root).budgets() == []


def test_a_report_on_two_data_sets_is_charged_to_both_or_to_none(root: Path, tmp_path: Path) -> None:
    records = dict(np.load(root / "patients.npz"))
    np.savez(root / "others.npz", **{**records, "x": records["x"] + np.float32(0.01)})
    conduct(root / "two", {"private": {"privacy": PRIVATE}}, more=(root / "others.npz",))
    first, second = (Ledger(path) for path in sorted((root / "ledger").glob("*.sqlite")))
    if first.path != ledger_of_patients(root):
        first, second = second, first
    second.drop([held.training for held in second.account().charges])
    second.set_budget(0.5, delta=1e-3)
    export = ("export", root / "two", "--report", "--to", tmp_path / "page")
    said("show", first.path, "--budget", "9", "--delta", "1e-3")
    assert "the budget is ε = 0.5" in said(*export, code=2)
    assert not (tmp_path / "page").exists()
    assert not any(held.released for ledger in (first, second) for held in ledger.account().charges)
    second.set_budget(9, delta=1e-3, reason="the board agreed")
    said(*export)
    assert [sum(bool(held.released) for held in one.account().charges) for one in (first, second)] == [2, 2]
    claimed = json.loads((tmp_path / "page" / "claim.json").read_text())
    assert [one["releases"] for one in claimed["released_of_each"]] == [2, 2]


def _is_private(root: Path, trial: str) -> bool:
    return bool(Store(str(root / "mixed")).asked()[trial]["recipe_name"] == "private")


@pytest.mark.parametrize("evaluation", ["membership", "explanations"])
def test_a_report_that_shows_training_records_stays(root: Path, tmp_path: Path, evaluation: str) -> None:
    conduct(root / "looked", {"private": {"privacy": PRIVATE}}, evaluation)
    export = ("export", root / "looked", "--report", "--to", tmp_path / "page", "--budget", "9", "--delta", "1e-3")
    refusal = said(*export, code=2)
    assert f"shows figures of {evaluation}, measured on the training records themselves" in refusal


def test_a_report_may_say_that_nothing_could_be_asked_of_training_records(root: Path, tmp_path: Path) -> None:
    conduct(root / "unasked", {"private": {"privacy": PRIVATE}}, "clients", "training_data")
    said("export", root / "unasked", "--report", "--to", tmp_path / "page", "--budget", "9", "--delta", "1e-3")


def test_a_patient_is_traced_and_erased_and_what_left_is_listed(root: Path) -> None:
    said("release", root / "clean", "--recipe", "private", *BUDGET)
    listed = said("erase", root / "clean", "--patient", "P4")
    assert "3 records of a patient of patients went into 8 experiments" in listed
    assert "recall: released," in listed and "no weights can be made to forget" in listed
    assert listed.count("trained on") >= 3 and "(--delete)" in listed
    assert len(Store(str(root / "mixed")).finished()) == 6, "nothing is deleted before it is asked for"
    assert "record 12 of patients went into 8 experiments" in said("erase", root / "clean", "--record", "12")
    spent = ledger_at(root).account().released
    assert "deleted" in said("erase", root / "clean", "--patient", "P4", "--delete")
    for name in ("mixed", "clean"):
        left = Store(str(root / name))
        assert left.finished() == set() and left.read_text("report.html") == ""
        assert left.models() == [] and list((root / name / "answers").iterdir()) == []
    account = ledger_at(root).account()
    assert account.released == spent == account.held, "what was spent stays, and what was reserved holds nothing"
    assert "is of patient 'P99'" in said("erase", root / "clean", "--patient", "P99", code=2)
    assert "has records 0 to 59" in said("erase", root / "clean", "--record", "60", code=2)


def test_what_has_expired_is_deleted_and_its_charge_stays(root: Path) -> None:
    conduct(root / "short", {"private": {"privacy": PRIVATE}}, until="2020-01-01")
    said("release", root / "short", "--recipe", "private", *BUDGET)
    assert "2 experiments have expired" in said("show", root / "short")
    assert "2 experiments had expired and are deleted" in said("erase", root / "short", "--expired")
    assert all(list((root / "short" / folder).iterdir()) == [] for folder in ("trials", "artefacts", "answers"))
    assert Store(str(root / "clean")).finished()
    assert ledger_at(root).account().released > 0
    assert "0 experiments had expired" in said("erase", root / "short", "--expired")


def test_reservations_are_given_back_and_what_began_is_not(root: Path) -> None:
    before = ledger_at(root).account().charges
    ledger_at(root).reserve(ReleaseRequest(training="planned", label="planned", charge=before[0].charge))
    assert "4 trained, whatever became of them, and 1 reserved" in said("show", root / "clean")
    assert "1 reservations given back" in said("erase", root / "clean", "--reservations")
    assert "4 trained, whatever became of them, and 0 reserved" in said("show", root / "clean")


def test_a_budget_is_set_and_changed_by_show(root: Path) -> None:
    assert "no budget is set" in said("show", root / "ledger")
    assert "budget 3" in said("show", root / "ledger", "--budget", "3", "--delta", "1e-3")
    assert "give --reason" in said("show", root / "ledger", "--budget", "4", code=2)
    assert "budget 4" in said("show", root / "ledger", "--budget", "4", "--reason", "more patients agreed")
    assert "there is no ledger" in said("show", root / "ledger" / "elsewhere" / "out", code=2)
    assert "no ledger of 'other'" in said("show", root / "ledger", "--data", "other", code=2)
    assert "give one of" in said("erase", root / "ledger", code=2)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("show", "--reason", "more patients agreed"), "--reason says why a budget changes: give --budget too"),
        (("release", "--recipe", "private", "--reason", "agreed"), "--reason is about a budget: give --budget too"),
        (("release", "--recipe", "private", "--delta", "1e-3"), "--delta is about a budget: give --budget too"),
        (("export", "--to", "page", "--report", "--delta", "1e-3"), "--delta is about a budget: give --budget too"),
        (("export", "--to", "page", "--report", "--best"), "leave --best out of --report"),
        (("export", "--to", "page", "--report", "--fold", "1"), "leave --fold out of --report"),
        (
            ("export", "--to", "page", "--report", "--repeat", "2", "--cohort", "made"),
            "--cohort and --repeat: a report tells of every trial",
        ),
        (("erase", "--expired", "--delete"), "--expired deletes without being asked twice: leave --delete out"),
        (("erase", "--reservations", "--delete"), "deletes no model and no result: leave --delete out"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    root: Path, tmp_path: Path, arguments: tuple[str, ...], why: str
) -> None:
    command, *options = (str(tmp_path / "page") if word == "page" else word for word in arguments)
    before = ledger_at(root).account()
    assert why in said(command, root / "clean", *options, code=2)
    assert ledger_at(root).account() == before and not (tmp_path / "page").exists()


def test_what_stays_on_record_can_be_read(root: Path) -> None:
    shown = said("show", root / "ledger")
    assert "why it changed" not in shown and "deletions" not in shown
    said("show", root / "ledger", "--budget", "3", "--delta", "1e-3")
    shown = said("show", root / "ledger", "--budget", "4", "--reason", "more patients agreed")
    first, second = ledger_at(root).budgets()
    assert f"3 0.001 {first.at} 4 0.001 {second.at} more patients agreed" in shown
    said("erase", root / "clean", "--record", "12", "--delete")
    ((at, *_),) = ledger_at(root).erasures()
    assert f"{at} 8 trials record 12" in said("show", root / "ledger")


def test_what_evaluations_train_privately_is_shown_with_its_epsilon(root: Path) -> None:
    assert "trained by an evaluation" not in said("show", root / "clean")
    ledger, (trial, *_) = ledger_at(root), ledger_at(root).experiments()
    for name, own in (
        ("glass_box", OwnTraining(label="DP-EBM", epsilon=2.0, delta=1e-3, accountant="gdp")),
        ("explanations", OwnTraining(label="networks for maps: another seed")),
    ):
        label = f"{trial.label} · {name} · {own.label}"
        asked = replace(trial, training=f"{name} of it", label=label, noise="seeded" if own.epsilon else "")
        ledger.begin(asked, np.ones(60, np.uint8), charge_of_own(own))
    shown = said("show", root / "clean")
    assert "trained by an evaluation, never released noise ε alone at δ =" in shown
    assert re.search(r"glass_box · DP-EBM seeded (2|2\.00\d|1\.99\d) 0\.001 ", shown) and "another seed" not in shown
