"""The decision log of a service: what it answered, and whether a line was changed or removed.

python -m jobs.log verify decisions
"""

import json
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.console import console, console_table, count_of, user_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve.audit_log.reading import Found
    from serve.audit_log.verify import ChainReport

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, help=(
    "The decision log of a service: one line an answered call, in chains of hashes.\n\n"
    "It holds model, version, time, classes, and keyed hashes of what was sent, never what was sent. It is in "
    "`decisions` beside the folder of the results, or where the setting `log` of the service says."
))  # fmt: skip

_NO_KEY = 3
"""Exit code of a verification that found no fault, without the keys."""

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the log.")]


@app.command()
def verify(
    folder: Folder,
    head: Annotated[str, typer.Option("--head", help="Hash of a line that must be there: one that an earlier verification printed, kept in another place.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the reports as JSON.")] = False,
) -> None:  # fmt: skip
    """Verify all chains: name each line that was changed, removed, added or moved up to the last signature (exit code 1).

    Lines after it are counted as unsigned: they may have been added, changed or removed. A line that a crash cut is
    reported as torn, and is no fault. Without the file of keys, as in a copy of the log, only hashes are compared, which
    anyone can make; the exit code is then 3.
    """
    with user_errors():
        from dataclasses import asdict

        from serve.audit_log.verify import verify as verified

        reports = verified(folder, head=head)
        if as_json:
            print(json.dumps([asdict(report) for report in reports]))
        else:
            rows = [
                (
                    one.writer,
                    str(one.files),
                    f"{one.first} to {one.last}",
                    str(one.answers),
                    str(one.unsigned),
                    one.head,
                )
                for one in reports
            ]
            titles = ["writer", "files", "entries", "answers", "unsigned", "head"]
            console.print(console_table(titles, rows), soft_wrap=True)
            for text in _shown_by(reports, head):
                console.print(text, markup=False, highlight=False, soft_wrap=True)
            for place in (place for report in reports for place in report.torn):
                console.print(
                    f"{place}: torn by a crash", style="yellow", markup=False, highlight=False, soft_wrap=True
                )
            for fault in (fault for report in reports for fault in report.faults):
                console.print(str(fault), style="red", markup=False, highlight=False, soft_wrap=True)
    if any(report.faults for report in reports):
        raise typer.Exit(1)
    if not all(report.signed for report in reports):
        raise typer.Exit(_NO_KEY)


@app.command()
def show(
    folder: Folder,
    given: Annotated[Path | None, typer.Option("--input", metavar="FILE", help="Only calls with this input: a body as it was sent (JSON, PNG, …), or records in the form that the model takes (.npy, or JSON of numbers).")] = None,
    model: Annotated[str, typer.Option("--model", help="Only answers of this model.")] = "",
    event: Annotated[str, typer.Option("--event", help="Only entries of this kind: answer, start, stop, load, promote, rollback, unload, refusals, lost, file or deleted.")] = "",
    last: Annotated[int, typer.Option("--last", min=1, help="How many entries, of the latest.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print each entry as JSON, with its file and line.")] = False,
) -> None:  # fmt: skip
    """Show the latest entries, or those of a given input, which is found by its keyed hash."""
    with user_errors():
        from serve.audit_log.keys import Keys
        from serve.audit_log.reading import Input, entries

        known = None if given is None else Input(given, Keys(folder))
        wanted = (
            one
            for one in entries(folder)
            if (known is None or known.within(one.entry))
            and model in ("", one.entry.get("model"))
            and event in ("", one.entry["event"])
        )
        shown = deque(wanted, maxlen=last)
        if as_json:
            for one in shown:
                print(json.dumps({"file": one.file, "line": one.line, **one.entry}))
            return
        if not shown:
            console.print("no such entry")
            return
        console.print(console_table(["time", "place", "what"], map(_row, shown)), soft_wrap=True)


@app.command("rotate-key")
def rotate_key(folder: Folder) -> None:
    """Make a new key for the hashes of inputs; a running service uses it from the next line on.

    Earlier keys stay in the file, so that earlier inputs can be found. Whoever deletes one can find them no more.
    """
    with user_errors():
        from serve.audit_log.keys import Keys

        key = Keys(folder).rotate()
        console.print(f"key {key.name}, made {key.made}, is in use", markup=False, highlight=False)


def _shown_by(reports: "Sequence[ChainReport]", head: str) -> list[str]:
    """Returns what a verification shows, and what it cannot show."""
    texts = []
    if not all(one.signed for one in reports):
        texts.append(
            "There is no file of keys here, so no signature was compared: the lines agree with one another, and whoever "
            "can write the folder could have added, cut or replaced them. Verify where the keys are."
        )
    elif unsigned := sum(one.unsigned for one in reports):
        texts.append(
            f"{count_of(unsigned, 'line')} without a signature: of a service that runs, or that died within a second "
            "of them; whoever can write the folder could have added them."
        )
    if not head:
        texts.append(
            "Whoever has the keys could have written everything anew. Keep the heads above in another place, and give "
            "one by --head to see that the log is still the same."
        )
    return texts


def _row(one: "Found") -> tuple[str, str, str]:
    entry: dict[str, Any] = one.entry
    said = entry["event"]
    if said == "answer":
        classes = entry.get("classes", [])
        some = ", ".join(map(str, classes[:8])) + (", …" if len(classes) > 8 else "")
        said = (
            f"{entry.get('model')} {entry.get('version')}: {entry.get('call')} of "
            f"{count_of(entry.get('records', 0), 'record')}, classes {some}"
        )
        left = sum(one is True for one in entry.get("left", []))
        said += f", {left} left to the clinician" if left else ""
    else:
        about = {
            k: v for k, v in entry.items() if k not in ("sequence", "previous", "event", "time", "heads", "sealed")
        }
        said += f" {json.dumps(about)}" if about else ""
    return str(entry.get("time", ""))[:19], f"{one.file}, line {one.line}", said


if __name__ == "__main__":
    app()
