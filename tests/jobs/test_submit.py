"""What may be submitted is what can be run."""

import subprocess
import sys

from jobs.submit import HERE, JOBS


def test_whatever_can_be_run_is_a_job_and_what_jobs_share_is_none() -> None:
    assert JOBS == ["audit", "benchmark", "evaluate", "ledger", "study", "sweep", "train"]
    shared = {path.stem for path in HERE.glob("[!_]*.py")} - {*JOBS, "submit"}
    assert shared == {"console", "ledger_tables", "options", "progress"}
    for name in shared:
        said = subprocess.run([sys.executable, "-m", f"jobs.{name}"], cwd=HERE.parent, capture_output=True, check=True)
        assert said.stdout == b""
