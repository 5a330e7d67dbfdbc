"""The commands of ``make evidence`` take hours, and no test runs them: each parses, and names what exists."""

import ast
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

from assay.study.reading import read_study
from jobs.benchmark import FOLDER, NAMES
from jobs.refusals import parsed

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = dict(re.findall(r"^([a-z-]+):[^=\n]*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE))
"""What each target runs, by its name."""


def commands(target: str) -> list[list[str]]:
    """The jobs that a target runs, each as its name and arguments."""
    return [shlex.split(words) for words in re.findall(r"\$\(BIN\)/python -m jobs\.(.*)", TARGETS[target])]


EVIDENCE = commands("evidence")
every_command = pytest.mark.parametrize("command", [*EVIDENCE, *commands("study")], ids=" ".join)


@every_command
def test_a_command_of_the_makefile_parses_and_names_what_there_is(command: list[str]) -> None:
    job, *arguments = command
    given = parsed(job, arguments)
    if "study" in given:
        assert read_study(str(given["study"]), tuple(given["set_"] or ()), folder=ROOT / "jobs" / "studies").cohorts
    if job == "benchmark":
        tree = ast.parse((FOLDER / f"{given['name'].replace('-', '_')}.py").read_text())
        (measure,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "measure")
        takes = measure.args
        assert len(takes.args) == len(takes.defaults) and None not in takes.kw_defaults


def test_each_line_of_the_evidence_is_a_job_after_targets_that_exist() -> None:
    lines = [line for line in TARGETS["evidence"].splitlines() if not line.startswith("\t@echo")]
    assert len(lines) == len(EVIDENCE)
    targets = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())  # type: ignore[index]
    before = [line.partition("$(BIN)/python -m jobs.")[0].strip() for line in lines]
    assert {text.removeprefix("$(MAKE) ").removesuffix(" &&") for text in before if text} <= targets


def test_the_evidence_has_every_benchmark_and_nothing_twice() -> None:
    assert [one for one, count in Counter(map(tuple, EVIDENCE)).items() if count > 1] == []
    assert {arguments[0] for job, *arguments in EVIDENCE if job == "benchmark"} == set(NAMES)
