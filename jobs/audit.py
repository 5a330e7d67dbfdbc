"""Audit private training: train a recipe with canaries, and compute a lower bound on its ε.

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
    canaries: Annotated[int, typer.Option(min=10, help="Number of canaries: records that are trained on with probability 1/2; the more, the tighter the bound.")] = 1000,
    space: Annotated[Literal["gradient", "input"], typer.Option(help="gradient: the auditor sees every noisy gradient. input: records with wrong labels, and only the final model.")] = "gradient",
    confidence: Annotated[float, typer.Option(help="Confidence level of the bound, between 0.5 and 1.")] = 0.95,
    audits: Annotated[int, typer.Option(min=1, help="Number of audits that you interpret together, this one included: the bound is corrected for it.")] = 1,
    against: Annotated[str | None, typer.Option(help="Another private recipe of the study: checks whether both draw the same noise.")] = None,
    fold: FoldOption = 1,
    set_: Changes = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else on standard output.")] = False,
) -> None:  # fmt: skip
    """Train once with canaries, and compare a lower bound on ε with the claimed ε.

    Exit code 1 if the bound exceeds the claim, or if a check of clipping, noise, sampling, steps or weights fails.
    Where there are too few canaries to show a bug, the verdict is inconclusive.

    The audited model is not stored. The audit concerns the training code, not a model that you have.
    """
    # With --json, standard output contains only the result.
    output = Console(stderr=True) if json_ else console
    with user_errors(output):
        output.print("reading the study …", style="dim")
        from assay.data.splits import refuse_beyond_official
        from assay.errors import SpecError
        from assay.evaluations.audit import Audit
        from assay.registry import build
        from assay.study.audit import audit_trial, compare_noise
        from assay.study.plan import load_datasets, plan
        from assay.study.reading import read_study
        from assay.study.spec import with_one_recipe

        settings = {"canaries": canaries, "space": space, "confidence": confidence, "audits": audits}
        audit = build("evaluation", {"name": "audit", **settings})
        assert isinstance(audit, Audit)
        whole = read_study(study, tuple(set_ or ()), folder=STUDIES)
        asked = with_one_recipe(whole, cohort=cohort, recipe=recipe, fold=fold)
        datasets = load_datasets(asked)
        (dataset,) = datasets.values()
        print_reading(output, dataset.name, dataset)
        refuse_beyond_official("--fold", fold, dataset, asked.split)
        trial = next(planned for planned in plan(asked, datasets) if (planned.fold, planned.repeat) == (fold - 1, 0))
        output.print(f"{trial.label}: training with up to {canaries} canaries", highlight=False)

        def watch(epoch: int, epochs: int) -> None:
            if epoch == epochs or epoch * 10 // epochs > (epoch - 1) * 10 // epochs:
                output.print(f"epoch {epoch} of {epochs}", style="dim", highlight=False)

        row, *checks = audit_trial(trial, dataset, audit, watch)
        if row.status != "measured":
            raise SpecError(f"recipe {recipe!r} cannot be audited: {row.warnings[0]}")
        if against is not None:
            compared = with_one_recipe(whole, cohort=trial.cohort, recipe=against, fold=fold)
            other = next(item for item in plan(compared, datasets) if (item.fold, item.repeat) == (fold - 1, 0))
            if other.recipe.privacy is None or trial.recipe.privacy is None:
                message = "--against compares the noise of two private recipes; name one that has privacy"
                raise SpecError(message, setting="--against", given=against)
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
    result = {
        **about,
        "epsilon_audited": row.value,
        **row.conditions,
        "verdict": verdict,
        "checks": {check.rule: _plain(check) for check in checks},
        "warnings": list(row.warnings),
    }
    return json.dumps(result, indent=2, ensure_ascii=False)


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
