"""Documents hold: links reach files and headings, folders say what they hold, and commands exist as they are shown."""

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click
import pytest
import typer

from jobs.console import application
from jobs.submit import JOBS, LOCAL

ROOT = Path(__file__).parents[1]
FOLDERS = ("platform", "jobs", "serve", "tune_spaces", "k8s", "tests")
DOCUMENTS = [*ROOT.glob("*.md"), *(file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.md")))]
LIBRARY = ROOT / "platform" / "assay"
PLACES = [*(ROOT / name for name in FOLDERS if name != "platform"), LIBRARY]
COMMANDS = ("submit", *LOCAL, *JOBS)
SCRIPTS = {"tests.device": "tests.device.__main__"}
"""Modules of the commands that are no jobs."""


def prose(file: Path) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", file.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(file: Path) -> set[str]:
    """What a link may name within a document: its headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", prose(file), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def astray(file: Path) -> Iterator[str]:
    """Relative links of a document that lead to no file, or to no heading."""
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", prose(file))):
        path, _, heading = link.partition("#")
        target = file.parent / path if path else file
        if ":" in path:
            continue
        if not target.exists() or (heading and heading not in anchors(target)):
            yield link


def shown(file: Path) -> Iterator[list[str]]:
    """The words of every command ``python -m jobs.NAME`` in a document's blocks of shell."""
    for block in re.findall(r"^```sh\n(.*?)^```", file.read_text(), flags=re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:2] == ["python", "-m"]:
                yield words[2:]


def commands(job: str) -> Iterator[click.Command]:
    """What a job can be asked to do: itself, or each of its commands."""
    module = import_module(SCRIPTS.get(job, f"jobs.{job}"))
    command = typer.main.get_command(getattr(module, "app", None) or application(module.main))
    yield from command.commands.values() if isinstance(command, click.Group) else [command]


def options(job: str) -> set[str]:
    return {
        word
        for command in commands(job)
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for word in parameter.opts
    }


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_link_leads_to_a_file_or_a_heading(file: Path) -> None:
    assert list(astray(file)) == []


@pytest.mark.parametrize("link", ["gone.md", "#no-such-heading", "other.md#gone", "folder/README.md"])
def test_a_link_that_leads_nowhere_is_found(link: str, tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Here\n")
    (tmp_path / "README.md").write_text(
        f"# Doors, of all kinds\n[a](#doors-of-all-kinds) [b](other.md#here) [c]({link})\n```\n# gone\n```\n"
    )
    assert list(astray(tmp_path / "README.md")) == [link]


def test_every_folder_says_what_it_holds() -> None:
    packages = [folder for folder in sorted(LIBRARY.iterdir()) if (folder / "__init__.py").exists()]
    assert [folder for folder in [*PLACES, *packages] if not (folder / "README.md").exists()] == []


def test_the_first_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_commands_are_shown_as_they_are(file: Path) -> None:
    for module, *words in shown(file):
        job = module.removeprefix("jobs.")
        assert job in COMMANDS or job in SCRIPTS, module
        inner = [word for word in words if word in COMMANDS] if job == "submit" else []
        known = options(job) | (options(inner[0]) if inner else set())
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, words


@pytest.mark.parametrize("job", COMMANDS)
def test_the_readme_of_jobs_shows_every_option(job: str) -> None:
    file = ROOT / "jobs" / "README.md"
    named = re.findall(r"`(--[\w-]+)", file.read_text())
    assert options(job) - {*named, *(word for command in shown(file) for word in command)} == set()
