"""Refuses, before anything is sent to a cluster, what a job would refuse there: its arguments, its study, its files."""

import typing
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import typer

from jobs.console import STUDIES, application

if TYPE_CHECKING:
    from assay.study.spec import Study

ROOT = Path(__file__).parents[1]
# Where a job writes: parameters by name, with the option that sets them.
WRITTEN = {"results": "--results", "ledger": "--ledger", "to": "--to", "out": "--out"}
# Files and folders that a job reads: they must be on the cluster, or in the checkout, which is sent.
READ = {"data": "--data", "weights": "--weights", "model": "--model", "app": "APP"}
# Suffixes of a --model that is a file; anything else names a function.
MODEL_FILES = (".onnx", ".skops")


def check_arguments(job: str, arguments: Sequence[str], jobs: Sequence[str]) -> None:
    """Refuses a job that could not do its work on a cluster.

    Args:
        job: its name, or the module of a plugin.
        arguments: of the job.
        jobs: names of all jobs.

    Raises:
        UserError: there is no such job, its study has a mistake, a file does not travel, or its results would be lost.
        click.ClickException: the job does not take these arguments.
        click.exceptions.Exit: they ask for help, which was printed.
    """
    from assay.registry import plugins, unknown_name

    if job not in jobs and job.partition(".")[0] not in plugins():
        raise unknown_name("job", job, list(jobs))
    given = parsed(job, arguments)
    for name, option in WRITTEN.items():
        if name in given and not given.get("dry_run"):
            # An option that may be repeated has a tuple, which is empty where it is not given.
            for location in (given[name] or [None]) if isinstance(given[name], list | tuple) else [given[name]]:
                _refuse_lost(option, location, needed=name == "results")
    for name, option in READ.items():
        value = given.get(name)
        if isinstance(value, str) and (name != "model" or value.endswith(MODEL_FILES)):
            _refuse_left_behind(option, value)
    if "study" in given:
        study = _check_study(str(given["study"]), tuple(given.get("set_") or ()))
        if study is not None and {"recipe", "fold"} <= given.keys():
            from assay.study.spec import with_one_recipe

            with_one_recipe(study, cohort=given.get("cohort"), recipe=given["recipe"], fold=given["fold"])


def parsed(job: str, arguments: Sequence[str]) -> Mapping[str, Any]:
    """Returns a job's arguments as the job itself reads them.

    Args:
        job: its name, or the module of a plugin.
        arguments: of the job.

    Returns:
        Values by the names of the job's parameters, those of the command where the job has several; without what the
        environment of this machine sets, for it is not sent.

    Raises:
        UserError: the package has no such module.
        click.ClickException: the job does not take these arguments.
        click.exceptions.Exit: they ask for help, which was printed.
    """
    from assay.errors import UserError

    name = job if "." in job else f"jobs.{job}"
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        package = name.rpartition(".")[0]
        why = f"unknown job {job!r}: the package {package!r} has no such module"
        raise UserError(why, setting="job", given=job) from None
    if not hasattr(module, "main") and not hasattr(module, "app"):
        return {}
    command = typer.main.get_command(getattr(module, "app", None) or application(module.main))
    context = command.make_context(f"python -m {name}", list(arguments))
    if isinstance(command, click.Group):
        # As click itself does; without a command, it shows its help instead of calling us.
        label, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = typing.cast(click.Command, inner).make_context(label, list(rest), parent=context)
    here = click.core.ParameterSource.ENVIRONMENT
    return {name: value for name, value in context.params.items() if context.get_parameter_source(name) != here}


def _refuse_lost(option: str, location: str | None, *, needed: bool) -> None:
    """Refuses to write below the temporary folder of a submitted job."""
    from assay.errors import UserError

    if (location is None and not needed) or (location and ("://" in location or Path(location).is_absolute())):
        return
    raise UserError(
        f"{option} {location or 'is not given'}: a submitted job runs in a temporary folder of the cluster, and results "
        "below it are lost with it; give an absolute path that the cluster keeps, or a URI such as s3://bucket/folder",
        setting=option,
        given=location,
        allowed="an absolute path or a URI",
    )


def _refuse_left_behind(option: str, path: str) -> None:
    """Refuses a relative path that is not in the checkout; an absolute one is the cluster's own."""
    from assay.errors import UserError

    if "://" in path or Path(path).is_absolute():
        return
    sent = (ROOT / path).resolve()
    if not sent.is_relative_to(ROOT) or not sent.exists():
        raise UserError(
            f"{option} {path}: not in this checkout, which alone is sent to the cluster; copy it there and give its path "
            "from the checkout's top folder, or give an absolute path or a URI that the cluster can read",
            setting=option,
            given=path,
            allowed="a path in the checkout, an absolute path or a URI",
        )


def _check_study(study: str, changes: tuple[str, ...]) -> "Study | None":
    """Refuses a study that cannot be read here, or that will not be there; returns it where it is here."""
    from assay.study.reading import read_study

    file = Path(study)
    if file.suffix in (".yaml", ".yml") or file.parent != Path():
        _refuse_left_behind("STUDY", study)
        if file.is_absolute() and not file.exists():
            # Of the cluster's own disk: the job reads it.
            return None
        study = study if file.is_absolute() else str(ROOT / study)
    read = read_study(study, changes, folder=STUDIES)
    _refuse_data_left_behind(read)
    return read


def _refuse_data_left_behind(study: "Study") -> None:
    """Refuses data files, named by a relative path, that are not sent."""
    for name, cohort in study.cohorts.items():
        paths = getattr(cohort.dataset, "path", None)
        for path in paths.values() if isinstance(paths, dict) else [paths]:
            if isinstance(path, str | Path):
                _refuse_left_behind(f"cohorts.{name}.dataset.path", str(path))
