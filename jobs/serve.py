"""Serve trained models: start the service, and load, promote, roll back and unload versions while it answers.

python -m jobs.serve start --results results/quickstart
"""

import signal
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jobs.console import console, count_of, user_errors

if TYPE_CHECKING:
    from serve.repository.entries import Entry, Repository, Version

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help=(
    "Serve trained models, with explanations, certificates and their cards.\n\n"
    "A repository is a folder that says which versions of which models are served. `start` serves it on this machine; "
    "the other commands change it, and the service follows within seconds, without a failed request. On a cluster, "
    "give the same folder or URI to serve.app:build_app as repository=…."
))  # fmt: skip

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the model in the paths of all calls.")]
VersionName = Annotated[str, typer.Argument(metavar="VERSION", help="Version of the model.")]
Place = Annotated[str, typer.Option("--repository", help="Folder or URI of the repository.")]
Results = Annotated[str | None, typer.Option("--results", help="Folder or URI of a finished study.")]
Recipe = Annotated[str | None, typer.Option("--recipe", help="Recipe of the study; by default the one that a rule chooses on validation records.")]  # fmt: skip
Cohort = Annotated[str | None, typer.Option("--cohort", help="Cohort of the study; by default the first that has the recipe.")]  # fmt: skip
Fold = Annotated[int, typer.Option("--fold", min=1, help="Fold, from 1.")]
Repeat = Annotated[int, typer.Option("--repeat", min=1, help="Repeat, from 1.")]
Client = Annotated[str, typer.Option("--client", help="Client whose own model is served, where the recipe personalises.")]  # fmt: skip
_PLACE = "serving"
LogFull = Literal["refuse", "continue"]


@app.command()
def start(
    repository: Place = _PLACE,
    results: Results = None,
    recipe: Recipe = None,
    cohort: Cohort = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this machine.")] = 8000,
    threads: Annotated[int, typer.Option(min=1, help="Torch threads of each replica.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, max=1, help="GPU that each replica reserves: 1, or a share.")] = 0.0,
    replicas: Annotated[int, typer.Option(min=1, help="Replicas that predict.")] = 1,
    slow_replicas: Annotated[int, typer.Option("--slow-replicas", min=1, help="Replicas that explain, and as many that certify, of each model.")] = 1,
    tokens: Annotated[str | None, typer.Option("--tokens", envvar="ASSAY_TOKENS", help="File of the tokens of those who may call, see jobs.tokens; by default tokens.json beside the repository, unless ASSAY_SERVE_AUTH says who may call; none asks for no token.")] = None,
    log: Annotated[str | None, typer.Option("--log", help="Folder of the decision log, or none, which keeps nothing; by default decisions beside the repository.")] = None,
    log_days: Annotated[int, typer.Option("--log-days", min=1, help="Days after which files of the decision log are deleted.")] = 183,
    log_full: Annotated[LogFull, typer.Option("--log-full", help="Where the log cannot be written: refuse calls, or continue and count them as lost.")] = "refuse",
    grpc_port: Annotated[int | None, typer.Option("--grpc-port", min=0, max=65535, help="Port of the Open Inference Protocol over gRPC; by default the one after --port, 0 offers none.")] = None,
    python_proxy: Annotated[bool, typer.Option("--python-proxy", help="Use Ray's Python proxy instead of HAProxy: slower, and everything is answered by the same replicas.")] = False,
) -> None:  # fmt: skip
    """Serve the models of a repository on this machine, on the loopback interface, until Ctrl-C.

    Into an empty repository, the model of --results is loaded first.
    """
    with user_errors():
        from serve.limits.run_haproxy import haproxy_binary
        from serve.limits.settings import Limits
        from serve.repository.entries import Repository
        from serve.settings import absolute, read_settings
        from serve.start import Service, keep, require_models, stop
        from serve.start import start as start_service

        place = absolute(repository)
        served = Repository(place)
        given = {"repository": place, "log": log, "tokens": tokens}
        settings = read_settings({key: value for key, value in given.items() if value is not None})
        if results and not served.names():
            _load(served, recipe or "", results=results, recipe=recipe, cohort=cohort)
        elif results:
            console.print(
                f"{repository} has models already, and nothing of {results} is loaded: "
                f"python -m jobs.serve load NAME --results {results} --repository {repository}",
                style="yellow", highlight=False, soft_wrap=True,
            )  # fmt: skip
        require_models(served, repository)
        if not python_proxy and haproxy_binary() is None:
            console.print(
                "HAProxy is not installed: Ray's Python proxy takes the calls, which is slower", style="yellow"
            )
            python_proxy = True
        grpc = grpc_port if grpc_port is not None else port + 1 if port < 65535 else port - 1
        service = Service(
            repository=place, port=port, threads=threads, gpus=gpus, replicas=replicas, slow_replicas=slow_replicas,
            apart=not python_proxy, tokens=settings.tokens, grpc_port=grpc, log=settings.log or "none",
            log_days=log_days, log_full=log_full,
        )  # fmt: skip
        console.print("starting", highlight=False)
        limits = replace(Limits.from_environment(), ongoing={"": 64})
        address = start_service(service, limits)
        console.print(f"ready: {address}", highlight=False, soft_wrap=True)
        if grpc:
            console.print(f"  gRPC at localhost:{grpc}", highlight=False)
        for name in served.names():
            entry = served.read(name)
            console.print(f"  {name}, version {entry.current if entry else '?'}", highlight=False)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            keep(service, limits, lambda text: console.print(text, highlight=False))
        except KeyboardInterrupt:
            console.print("stopping", highlight=False)
        finally:
            stop()


@app.command()
def load(
    name: Name,
    results: Annotated[str, typer.Option("--results", help="Folder or URI of a finished study.")],
    repository: Place = _PLACE,
    recipe: Recipe = None,
    cohort: Cohort = None,
    fold: Fold = 1,
    repeat: Repeat = 1,
    client: Client = "",
    version: Annotated[str, typer.Option("--version", help="Name of the version; the next number by default.")] = "",
    promote: Annotated[bool, typer.Option("--promote", help="Let it answer by default at once.")] = False,
) -> None:
    """Add a version of a model. The first one of a name answers by default."""
    with user_errors():
        from serve.repository.entries import Repository
        from serve.settings import absolute

        place = Repository(absolute(repository))
        _load(
            place, name, results=results, recipe=recipe, cohort=cohort, version=version, promote=promote, fold=fold,
            repeat=repeat, client=client,
        )  # fmt: skip


@app.command()
def promote(name: Name, version: VersionName, repository: Place = _PLACE) -> None:
    """Let a loaded version answer by default."""
    with user_errors():
        _change(repository, name, lambda entry: entry.promoted(version))


@app.command()
def rollback(name: Name, repository: Place = _PLACE) -> None:
    """Return to the version that answered before."""
    with user_errors():
        _change(repository, name, lambda entry: entry.rolled_back())


@app.command()
def unload(
    name: Name,
    version: Annotated[str | None, typer.Argument(metavar="[VERSION]", help="Version; the whole model by default.")] = None,
    repository: Place = _PLACE,
) -> None:  # fmt: skip
    """Remove a version, or a model with all its versions."""
    with user_errors():
        if version is not None:
            _change(repository, name, lambda entry: entry.without(version))
            return
        from serve.repository.entries import Repository
        from serve.settings import absolute

        place = Repository(absolute(repository))
        _entry(place, name)
        with place.locked():
            place.delete(name)
        console.print(f"{name} is unloaded", highlight=False)


@app.command("list")
def list_models(repository: Place = _PLACE) -> None:
    """Show the models of a repository with their versions."""
    with user_errors():
        from serve.repository.entries import Repository
        from serve.settings import absolute

        place = Repository(absolute(repository))
        names = place.names()
        console.print(f"{count_of(len(names), 'model')} in {repository}", highlight=False)
        for name in names:
            _show(_entry(place, name))


def _load(
    place: "Repository",
    name: str,
    *,
    results: str,
    recipe: str | None,
    cohort: str | None,
    version: str = "",
    promote: bool = False,
    fold: int = 1,
    repeat: int = 1,
    client: str = "",
) -> None:
    from assay.errors import SpecError
    from serve.repository.choosing import choose
    from serve.repository.entries import Entry, Source, Version
    from serve.repository.opening import open_source
    from serve.settings import absolute

    source = Source(
        results=absolute(results), recipe=recipe or "", cohort=cohort, fold=fold, repeat=repeat, client=client
    )
    if recipe is None:
        if (fold, repeat, client) != (1, 1, ""):
            raise SpecError(
                "--fold, --repeat and --client are of a recipe: name it by --recipe, or leave them out, and a rule chooses",
                setting="--recipe",
            )
        choice = choose(source.results, cohort=cohort)
        console.print(f"chosen: {choice.chosen.source.recipe}, {choice.rule}", highlight=False, soft_wrap=True)
        source = choice.chosen.source
    else:
        source = source.model_copy(update={"artefact": open_source(source, public=False).artefact})
    name = name or source.recipe
    with place.locked():
        entry = place.read(name)
        removed = place.removed(name)
        number = version or (entry.next_version if entry else str(removed.numbered + 1))
        added = Version(**source.model_dump(), version=number)
        entry = Entry.first(name, added, removed) if entry is None else entry.with_version(added, current=promote)
        place.write(entry)
    _show(entry)


def _change(repository: str, name: str, change: "Callable[[Entry], Entry]") -> None:
    from serve.repository.entries import Repository
    from serve.settings import absolute

    place = Repository(absolute(repository))
    with place.locked():
        entry = change(_entry(place, name))
        place.write(entry)
    _show(entry)


def _entry(place: "Repository", name: str) -> "Entry":
    from assay.errors import SpecError

    entry = place.read(name)
    if entry is None:
        known = place.names()
        message = f"no model {name!r} in the repository; it has {', '.join(known) or 'none'}"
        raise SpecError(message, setting="name", given=name, allowed=known)
    return entry


def _show(entry: "Entry") -> None:
    for one in entry.versions:
        console.print(f"  {entry.name} {_described(entry, one)}", highlight=False, soft_wrap=True)


def _described(entry: "Entry", one: "Version") -> str:
    role = "answers" if one.version == entry.current else "before" if one.version == entry.previous else "loaded"
    return f"version {one.version} ({role}): {one.recipe} of {one.results}, weights {one.artefact[:12]}"


if __name__ == "__main__":
    app()
