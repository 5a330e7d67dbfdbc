"""The comparison of a device with the CPU runs without Ray and pyarrow, finds what differs, and says what it skips."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.device import __main__ as script
from tests.device import all_checks, training
from tests.device.check import CPU, Check, Work, perform, unsupported
from tests.device.compare import apart, farthest
from tests.device.simulated import DEVICE, simulated

ROOT = Path(__file__).parents[2]
_WITHOUT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "pyarrow"}:
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
from tests.device.all_checks import all_checks
from tests.device.check import CPU, perform

names = {"training · plain · MLP", "explanation · Kernel SHAP · MLP"}
chosen = [check for check in all_checks() if check.quick and check.name in names]
verdicts = [perform(check, CPU) for check in chosen]
assert len(verdicts) == len(names), verdicts
print([verdict.line for verdict in verdicts if verdict.status != "agrees"])
"""


def call(*arguments: str) -> tuple[int, str]:
    """Runs the script in this process."""
    import typer

    app = typer.Typer()
    app.command()(script.main)
    found = CliRunner().invoke(app, list(arguments))
    return found.exit_code, found.output


@pytest.mark.slow  # what it imports is followed by the test of imports below
def test_it_runs_without_ray_and_pyarrow() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}", "OMP_NUM_THREADS": "1", "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_every_quick_check_is_one_of_each_part() -> None:
    parts = {check.name.split(" · ")[0] for check in all_checks.all_checks()}
    assert {check.name.split(" · ")[0] for check in all_checks.all_checks() if check.quick} == parts


def test_without_a_gpu_it_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert call("--device", "cuda", "--json", str(tmp_path / "it.json")) == (0, "skipped: no CUDA device\n")
    assert json.loads((tmp_path / "it.json").read_text())["checks"] == []


def test_a_name_that_no_check_has_and_a_file_without_a_folder_are_refused_at_once(tmp_path: Path) -> None:
    code, said = call("--device", "cpu", "--quick", "--only", "interval bound of")
    assert code == 2 and "interval bounds · MLP" in " ".join(said.split())
    code, said = call("--device", "cpu", "--quick", "--json", str(tmp_path / "gone" / "it.json"))
    assert code == 2 and "there is no folder" in said


def test_one_check_runs_on_the_cpu_and_is_written(tmp_path: Path) -> None:
    code, output = call(
        "--device", "cpu", "--quick", "--only", "interval bounds", "--json", str(tmp_path / "it.json")
    )  # fmt: skip
    assert code == 0 and output.startswith("agrees   interval bounds · MLP (float64): apart 0.0e+00")
    (written,) = json.loads((tmp_path / "it.json").read_text())["checks"]
    assert written["status"] == "agrees" and written["device_step"] > 0 and written["records_a_second"] > 0


@pytest.fixture
def one_off(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A check whose third run, that of the CPU, gives another number."""
    numbers = [1.0, 1.0, 1.1]

    def run(device: torch.device, dtype: torch.dtype) -> Work:
        return Work(values={"number": torch.tensor(numbers.pop(0))}, steps=1, passed=1)

    check = Check(name="odd", run=run, dtype=torch.float32, within=0.05)
    monkeypatch.setattr(all_checks, "all_checks", lambda: [check])
    yield numbers


def test_what_differs_fails(one_off: list[float]) -> None:
    code, output = call("--device", "cpu")
    assert code == 1 and output.startswith("differs  odd (float32): apart 9.1e-02 of 5e-02")


def test_what_is_not_begun_in_time_fails(one_off: list[float]) -> None:
    code, output = call("--device", "cpu", "--limit", "-1")
    assert code == 1 and "1 not begun" in output


def test_a_device_that_does_not_repeat_itself_differs() -> None:
    numbers = [1.0, 1.001, 1.001]

    def run(device: torch.device, dtype: torch.dtype) -> Work:
        return Work(values={"number": torch.tensor(numbers.pop(0))}, steps=1, passed=1)

    found = perform(Check(name="odd", run=run, dtype=torch.float32, within=0.05), CPU)
    assert found.status == "differs" and "other bits" in found.why


def test_counts_may_differ_by_so_many_records() -> None:
    for allowed, status in ((1, "differs"), (2, "agrees")):
        counts = [3, 3, 5]

        def run(device: torch.device, dtype: torch.dtype, counts: list[int] = counts) -> Work:
            fooled = torch.tensor([counts.pop(0)])
            return Work(values={"one": torch.ones(1)}, counts={"fooled": fooled}, steps=1, passed=1)

        check = Check(name="odd", run=run, dtype=torch.float32, within=0.0, records=allowed)
        assert perform(check, CPU).status == status


def test_an_error_of_the_library_is_a_verdict() -> None:
    check = Check(name="odd", run=partial(training.train, "no network", "plain"), dtype=torch.float32, within=0.0)
    found = perform(check, CPU)
    assert found.status == "failed" and "no network" in found.why


def test_a_type_that_a_device_lacks_is_skipped() -> None:
    assert unsupported(torch.device("mps"), torch.float64) == "mps has no float64"
    assert unsupported(torch.device("mps"), torch.float32) is None


@pytest.mark.parametrize(
    ("found", "expected", "difference"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.2),
        ([1.0, 2.0], [1.0, float("inf")], float("inf")),
        ([float("nan")], [1.0], float("inf")),
        ([float("inf"), 1.0], [float("inf"), 1.0], 0.0),
        ([1.0], [1.0, 1.0], float("inf")),
    ],
)
def test_differences_are_relative_to_the_greatest_entry(
    found: list[float], expected: list[float], difference: float
) -> None:
    assert apart(torch.tensor(found), torch.tensor(expected)) == pytest.approx(difference)


def test_a_tensor_that_one_device_lacks_is_named() -> None:
    one = {"a": torch.ones(1)}
    assert farthest(one, {**one, "b": torch.ones(1)}) == ("b", float("inf"))


def imported(file: Path) -> set[str]:
    """Full names of what a file imports anywhere."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_nothing_that_it_imports_needs_ray_or_pyarrow() -> None:
    waiting = [file for file in (ROOT / "tests" / "device").glob("*.py") if not file.name.startswith("test_")]
    seen: dict[Path, set[str]] = {}
    while waiting:
        file = waiting.pop()
        seen[file] = imported(file)
        paths = [(ROOT / "platform" / Path(*name.split("."))) for name in seen[file] if name.startswith("assay.")]
        places = [place for path in paths for place in (path.with_suffix(".py"), path / "__init__.py")]
        waiting += [place for place in places if place.exists() and place not in seen]
    assert len(seen) > 50
    assert not {file for file, names in seen.items() if {name.split(".")[0] for name in names} & {"ray", "pyarrow"}}


QUICK = (
    "training · plain · MLP",
    "explanation · exact Shapley · MLP",
    *(
        pytest.param(name, marks=pytest.mark.slow)  # the same by one network that trains, and one that is explained
        for name in ("training · private · MLP", "attack curve · FAB · MLP", "smoothing · LSTM")
    ),
)


@pytest.mark.parametrize("name", QUICK)
def test_no_tensor_lies_on_the_wrong_device(name: str) -> None:
    """On the simulated device, which refuses what a GPU refuses."""
    (check,) = [check for check in all_checks.all_checks() if check.name == name and check.quick]
    with simulated():
        assert perform(check, DEVICE).line.startswith("agrees")
