"""Audit the trainer of a private recipe: train it with canaries, and bound its ε from below.

python -m jobs.audit quickstart --recipe dp_eps_1
"""

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from jobs.console import STUDIES, console, console_table, print_reading, run, user_errors
from jobs.options import Changes, CohortOption, FoldOption, RecipeName, StudyName

if TYPE_CHECKING:
    from assay.results import Measurement

_STYLES = {"pass": "green", "warn": "yellow", "fail": "bold red"}


def main(
    study: StudyName,
    recipe: RecipeName,
    cohort: CohortOption = None,
    canaries: Annotated[int, typer.Option(min=10, help="Records that are in or out by a fair coin; the more, the tighter the bound.")] = 1000,
    space: Annotated[Literal["gradient", "input"], typer.Option(help="gradient: the auditor reads every noisy gradient. input: records with wrong labels, and the last model alone.")] = "gradient",
    confidence: Annotated[float, typer.Option(help="Confidence level of the bound, between 0.5 and 1.")] = 0.95,
    audits: Annotated[int, typer.Option(min=1, help="Audits that you run and read together, this one included: the confidence is shared among them.")] = 1,
    against: Annotated[str | None, typer.Option(help="Another private recipe of the study: does it draw the same noise?")] = None,
    fold: FoldOption = 1,
    set_: Changes = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else on standard output.")] = False,
) -> None:  # fmt: skip
    """One training with canaries, and a lower bound on ε beside the claim.

    Exit code 1 if the bound exceeds the claim, or if a check of clipping, noise, sampling, steps or weights fails.
    Where the canaries are too few to show a bug, the verdict is inconclusive.

    The audited run is one of its own: it is kept nowhere, and says nothing of a model that you have.
    """
    # With --json, standard output holds the result alone.
    said = Console(stderr=True) if json_ else console
    with user_errors(said):
        said.print("reading the study …", style="dim")
        from assay.data.splits import refuse_beyond_official
        from assay.errors import SpecError
        from assay.evaluations.audit import Audit
        from assay.registry import build
        from assay.study.audit import audit_trial, compare_noise
        from assay.study.plan import load_datasets, plan
        from assay.study.spec import read_study, with_one_recipe

        settings = {"canaries": canaries, "space": space, "confidence": confidence, "audits": audits}
        audit = build("evaluation", {"name": "audit", **settings})
        assert isinstance(audit, Audit)
        whole = read_study(study, tuple(set_ or ()), folder=STUDIES)
        asked = with_one_recipe(whole, cohort=cohort, recipe=recipe, fold=fold)
        datasets = load_datasets(asked)
        (dataset,) = datasets.values()
        print_reading(said, dataset.name, dataset)
        refuse_beyond_official("--fold", fold, dataset, asked.split)
        trial = next(one for one in plan(asked, datasets) if (one.fold, one.repeat) == (fold - 1, 0))
        said.print(f"{trial.label}: training with up to {canaries} canaries", highlight=False)

        def watch(epoch: int, epochs: int) -> None:
            if epoch == epochs or epoch * 10 // epochs > (epoch - 1) * 10 // epochs:
                said.print(f"epoch {epoch} of {epochs}", style="dim", highlight=False)

        row, *checks = audit_trial(trial, dataset, audit, watch)
        if row.status != "measured":
            raise SpecError(f"recipe {recipe!r} cannot be audited: {row.warnings[0]}")
        if against is not None:
            beside = with_one_recipe(whole, cohort=trial.cohort, recipe=against, fold=fold)
            other = next(one for one in plan(beside, datasets) if (one.fold, one.repeat) == (fold - 1, 0))
            if other.recipe.privacy is None or trial.recipe.privacy is None:
                said_of = "--against compares the noise of two private recipes; name one that has privacy"
                raise SpecError(said_of, setting="--against", given=against)
            checks += compare_noise(trial, other, dataset)
    verdicts = {check.verdict for check in checks}
    verdict = "fail" if "fail" in verdicts else "inconclusive" if "warn" in verdicts else "pass"
    if json_:
        about = {"study": asked.name, "cohort": trial.cohort, "recipe": recipe, "fold": fold}
        print(_as_json(about, row, checks, verdict))
    else:
        _print(row, checks)
    raise typer.Exit(1 if verdict == "fail" else 0)


def _as_json(about: dict[str, Any], row: "Measurement", checks: "list[Measurement]", verdict: str) -> str:
    found = {
        **about,
        "epsilon_audited": row.value,
        **row.conditions,
        "verdict": verdict,
        "checks": {check.rule: _plain(check) for check in checks},
        "warnings": list(row.warnings),
    }
    return json.dumps(found, indent=2, ensure_ascii=False)


def _plain(check: "Measurement") -> dict[str, Any]:
    return {"verdict": check.verdict, "figure": check.value, "message": check.warnings[0]}


def _print(row: "Measurement", checks: "list[Measurement]") -> None:
    about = row.conditions
    claimed = about["claimed_epsilon"]
    rows = [
        ("ε, at least", f"{row.value:.3f}"),
        ("ε, claimed", "nothing (ε = ∞)" if claimed is None else f"{claimed:.3f} at δ = {about['delta']:g}"),
        ("confidence", f"{about['confidence']:g}" + (f" for {about['audits']} audits" if about["audits"] > 1 else "")),
        ("canaries", f"{about['canaries']} in {about['space']} space, {about['included']} of them trained on"),
        ("guesses", f"{about['correct']} of {about['guesses']} right"),
        ("most it could show", f"{about['most']:.3f}"),
    ]
    if "steps" in about:
        noise = f"noise multiplier {about['noise_multiplier']:.3f}, sample rate {about['sample_rate']:.4f}"
        rows.append(("mechanism", f"{about['steps']} steps, {noise}"))
    console.print(console_table(["audit", ""], rows))
    for warning in row.warnings:
        console.print(warning, style="yellow", markup=False, highlight=False)
    for check in checks:
        console.print(check.warnings[0], style=_STYLES[str(check.verdict)], markup=False, highlight=False)


if __name__ == "__main__":
    run(main)
