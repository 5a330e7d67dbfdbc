"""Whatever is done to the files of a decision log is found, by file and line; what a crash does is no fault."""

import json
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from assay.errors import StorageError
from jobs.log import app
from serve.audit_log import chain as chains
from serve.audit_log.chain import Chain
from serve.audit_log.decision import Decision
from serve.audit_log.files import files_of
from serve.audit_log.keys import FILE, Keys
from serve.audit_log.log import DecisionLog
from serve.audit_log.retention import expire
from serve.audit_log.verify import Fault, verify


def decision(**changed: object) -> Decision:
    about = {"model": "triage", "version": "1", "artefact": "ab", "call": "predict", "body": b"{}", "classes": [1, 0]}
    return Decision(**{**about, "records": np.arange(6, dtype=np.float32).reshape(2, 3), **changed})  # type: ignore[arg-type]


def faults(folder: Path) -> list[Fault]:
    return [fault for report in verify(folder) for fault in report.faults]


def torn(folder: Path) -> list[str]:
    return [place for report in verify(folder) for place in report.torn]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a log of two writers, the first of which was started twice."""
    folder = tmp_path_factory.mktemp("sound")
    for _ in range(2):
        log, other = DecisionLog(folder), DecisionLog(folder)
        for number in range(4):
            log.record(decision(request_id=f"call-{number}"))
        other.record(decision())
        log.close()
        other.close()
    assert [report.files for report in verify(folder)] == [2, 2]
    assert faults(folder) == [] == torn(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(sound: dict[str, bytes], tmp_path: Path) -> Path:
    return restore(sound, tmp_path)


def restore(files: dict[str, bytes], folder: Path) -> Path:
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    return folder


def place(sound: dict[str, bytes], which: int, where: int) -> tuple[str, int, list[bytes]]:
    """A file of the log, the index of one of its lines, and all of them."""
    names = sorted(name for name in sound if name.endswith(".jsonl"))
    name = names[which % len(names)]
    lines = sound[name].splitlines(keepends=True)
    return name, where % len(lines), lines


Places = st.tuples(st.integers(0, 3), st.integers(0, 99))
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(Places, st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_an_edited_line_is_named(
    sound: dict[str, bytes], folder: Path, at: tuple[int, int], where: int, put: bytes
) -> None:
    name, index, lines = place(sound, *at)
    line = lines[index]
    begin = where % (len(line) - 1)
    edited = line[:begin] + put + line[begin + len(put) :]
    if edited == line or b"\n" in put or not edited.endswith(b"\n"):
        return
    restore({**sound, name: b"".join([*lines[:index], edited, *lines[index + 1 :]])}, folder)
    assert (name, index + 1) in {(fault.file, fault.line) for fault in faults(folder)}


@quick
@given(Places)
def test_a_deleted_line_is_found_where_it_was(sound: dict[str, bytes], folder: Path, at: tuple[int, int]) -> None:
    name, index, lines = place(sound, *at)
    restore({**sound, name: b"".join([*lines[:index], *lines[index + 1 :]])}, folder)
    named = {(fault.file, fault.line) for fault in faults(folder)}
    after = {(name, index + 1), (name, index)} | {(other, 1) for other in sound}
    assert named and named & after


@quick
@given(Places, st.integers(1, 99))
def test_lines_that_changed_places_are_found(
    sound: dict[str, bytes], folder: Path, at: tuple[int, int], by: int
) -> None:
    name, index, lines = place(sound, *at)
    other = (index + by) % len(lines)
    if other == index:
        return
    lines[index], lines[other] = lines[other], lines[index]
    restore({**sound, name: b"".join(lines)}, folder)
    named = {(fault.file, fault.line) for fault in faults(folder)}
    assert named & {(name, index + 1), (name, other + 1)}


@quick
@given(Places, st.integers(1, 10_000))
def test_a_cut_line_is_no_crash_if_it_was_whole_before(
    sound: dict[str, bytes], folder: Path, at: tuple[int, int], cut: int
) -> None:
    name, index, lines = place(sound, *at)
    kept = lines[index][: -(1 + cut % (len(lines[index]) - 1))]
    restore({**sound, name: b"".join([*lines[:index], kept])}, folder)
    assert (name, index + 1) in {(fault.file, fault.line) for fault in faults(folder)}


@pytest.mark.parametrize("removed", ["0.000001", "0.000002", "1.000001", "1.000002", "0.0", "1.0", ".head"])
def test_removed_files_are_found(folder: Path, removed: str) -> None:
    for path in folder.iterdir():
        if f"-{removed}" in path.name or path.name.endswith(removed):
            path.unlink()
    assert faults(folder)


def test_all_files_of_a_writer_cannot_be_removed_unnoticed(folder: Path) -> None:
    for path in folder.glob("*-1.*"):
        path.unlink()
    assert "were removed" in str(faults(folder)[0])


def test_a_chain_that_was_written_anew_has_no_signed_head(folder: Path) -> None:
    writer, files = next(iter(files_of(folder).items()))
    for file in files:
        file.path.unlink()
    previous, lines = "0" * 64, []
    for number in range(1, 30):
        line = json.dumps({"sequence": number, "previous": previous, "event": "answer", "classes": [0]}).encode()
        previous = chains.hash_of(line)
        lines.append(line + b"\n")
    files[0].path.write_bytes(b"".join(lines))
    head = {"sequence": 29, "hash": previous, "key": Keys(folder).current.name, "signature": "0" * 64}
    (folder / f"{writer}.head").write_text(json.dumps(head))
    assert "no key of this log signed it" in " ".join(map(str, faults(folder)))


def test_a_head_that_was_kept_elsewhere_finds_what_a_thief_of_the_key_removed(folder: Path) -> None:
    kept = verify(folder)[0].head
    assert not any(report.faults for report in verify(folder, head=kept))
    assert "no line has the hash" in str(verify(folder, head="f" * 64)[0].faults[0])


def crashed(folder: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> Chain:
    """A chain whose process died in the middle of a line."""
    chain = Chain.claim(folder, Keys.create(folder))
    chain.add({"event": "answer", "classes": [1]})
    chain.write()
    chain.sync()
    chain.add({"event": "answer", "classes": [0]})
    partial = chain._pending[:written]
    assert chain._file is not None
    chains.os.write(chain._file, partial)
    chain.close()
    return chain


@pytest.mark.parametrize("written", [1, 40, 10_000])
def test_a_line_that_a_crash_cut_is_torn_and_the_next_start_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    crashed(tmp_path, monkeypatch, written)
    whole = written == 10_000
    assert (faults(tmp_path), len(torn(tmp_path))) == ([], int(not whole))
    log = DecisionLog(tmp_path)
    log.record(decision())
    log.close()
    (report,) = verify(tmp_path)
    assert (report.faults, len(report.torn), report.files) == ([], int(not whole), 2)
    assert report.answers == 2 + whole
    assert [report.first, report.last] == [1, report.lines - len(report.torn)]
    # The torn line is as it was, or it is tampering.
    first = files_of(tmp_path)[report.writer][0].path
    first.write_bytes(first.read_bytes()[:-1])
    assert faults(tmp_path)


def forged(lines: list[bytes], **changed: object) -> bytes:
    """A line with the right number and the right hash of the line before, as anyone can write it."""
    last = json.loads(lines[-1])
    previous = chains.hash_of(lines[-1].removesuffix(b"\n"))
    entry = {"sequence": last["sequence"] + 1, "previous": previous, "event": "answer", "classes": [0], **changed}
    return chains.encode(entry) + b"\n"


def append(path: Path, *entries: dict[str, object]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    for entry in entries:
        lines.append(forged(lines, **entry))
    path.write_bytes(b"".join(lines))


def stopped(folder: Path) -> list[Path]:
    """The files of the first chain, in their order."""
    return [file.path for file in next(iter(files_of(folder).values()))]


@pytest.mark.parametrize("event", ["answer", "refusals", "stop", "start", "load"])
@pytest.mark.parametrize("which", [0, 1])
def test_nothing_is_appended_after_a_stop(folder: Path, event: str, which: int) -> None:
    """By hand the lines are right: without this rule only a signature, which comes later, would miss them."""
    paths = stopped(folder)
    count = len(paths[which].read_bytes().splitlines())
    append(paths[which], {"event": event})
    assert (paths[which].name, count + 1) in {(one.file, one.line) for one in faults(folder)}


def test_what_was_appended_is_found_after_the_service_has_gone_on(folder: Path) -> None:
    paths = stopped(folder)
    append(paths[-1], {}, {})
    log = DecisionLog(folder)
    log.record(decision())
    log.close()
    assert "after the process had ended" in str(faults(folder)[0])


@pytest.mark.parametrize("events", [["file", "answer"], ["file", "start", "answer"], ["file", "deleted"], ["answer"]])
def test_a_forged_file_after_a_stop_is_found(folder: Path, events: list[str]) -> None:
    paths = stopped(folder)
    last, name = paths[-1].read_bytes().splitlines(keepends=True), paths[-1].name.replace("000002", "000003")
    sealed = [json.loads(last[-1])["sequence"], chains.hash_of(last[-1].removesuffix(b"\n"))]
    about: dict[str, dict[str, object]] = {
        "file": {"file": name, "sealed": sealed},
        "deleted": {"files": [], "last": 1, "hash": "0" * 64, "key": "", "signature": ""},
    }
    lines = last
    for event in events:
        lines = [*lines, forged(lines, event=event, **about.get(event, {}))]
    (folder / name).write_bytes(b"".join(lines[len(last) :]))
    assert name in {fault.file for fault in faults(folder)}


def test_lines_of_a_process_that_died_are_counted_where_no_signature_vouches_for_them(tmp_path: Path) -> None:
    log = DecisionLog(tmp_path)
    log.record(decision())
    log.close()
    assert [report.unsigned for report in verify(tmp_path)] == [0]
    chain = Chain.claim(tmp_path, Keys(tmp_path))
    chain.add({"event": "start"})
    chain.write()
    chain.sync()
    chain.add({"event": "answer", "classes": [1]})
    chain.write()
    chain.close()
    assert (faults(tmp_path), [report.unsigned for report in verify(tmp_path)]) == ([], [1])
    # Anyone could have added one more; that it has no signature is all that can be said.
    append(stopped(tmp_path)[-1], {})
    assert (faults(tmp_path), [report.unsigned for report in verify(tmp_path)]) == ([], [2])
    DecisionLog(tmp_path).close()
    assert (faults(tmp_path), [report.unsigned for report in verify(tmp_path)]) == ([], [2])


def test_without_the_keys_the_command_says_what_it_cannot_show(folder: Path) -> None:
    told = CliRunner().invoke(app, ["verify", str(folder)])
    assert told.exit_code == 0 and "Whoever has the keys could have written everything anew" in told.output
    kept = verify(folder)[0].head
    (folder / FILE).unlink()
    told = CliRunner().invoke(app, ["verify", str(folder)])
    assert told.exit_code == 3 and "no signature was compared" in told.output
    assert not any(report.signed for report in verify(folder))
    assert CliRunner().invoke(app, ["verify", str(folder), "--head", kept]).exit_code == 3
    append(stopped(folder)[-1], {})
    assert CliRunner().invoke(app, ["verify", str(folder)]).exit_code == 1


def test_a_log_that_was_replaced_as_a_whole_is_found_by_a_head_that_was_kept(folder: Path) -> None:
    kept = verify(folder)[0].head
    for path in folder.iterdir():
        path.unlink()
    log = DecisionLog(folder)
    log.record(decision())
    log.close()
    assert faults(folder) == []
    told = CliRunner().invoke(app, ["verify", str(folder), "--head", kept])
    assert told.exit_code == 1 and "no line has the hash" in told.output


def test_files_older_than_the_retention_go_and_the_chain_stays_verifiable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = date(2026, 1, 1)
    for day in range(0, 400, 40):
        now = begin + timedelta(days=day)
        monkeypatch.setattr("serve.audit_log.chain.today", lambda now=now: now)
        monkeypatch.setattr("serve.audit_log.retention.today", lambda now=now: now)
        monkeypatch.setattr("serve.audit_log.log.today", lambda now=now: now)
        log = DecisionLog(tmp_path, days=183)
        log.record(decision())
        log.close()
        assert faults(tmp_path) == []
    (files,) = files_of(tmp_path).values()
    assert [(now - file.day).days for file in files] == [160, 120, 80, 40, 0]
    (report,) = verify(tmp_path)
    assert report.first > 1
    # Without the note, or without its signature, they would be missing.
    files[0].path.unlink()
    assert "no signed note says so" in str(faults(tmp_path)[0])


def test_a_note_of_deletion_needs_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = date.today() + timedelta(days=300)
    DecisionLog(tmp_path).close()
    for module in ("chain", "retention", "log"):
        monkeypatch.setattr(f"serve.audit_log.{module}.today", lambda: later)
    chain = Chain.claim(tmp_path, Keys(tmp_path))
    chain.write()
    monkeypatch.setattr("serve.audit_log.keys.Key.signature", lambda key, *said: "0" * 64)
    assert len(expire(chain, 183)) == 1
    chain.close()
    monkeypatch.undo()
    assert any("no key of this log signed" in str(fault) for fault in faults(tmp_path))


def test_the_command_says_where_and_ends_with_one(folder: Path) -> None:
    told = CliRunner().invoke(app, ["verify", str(folder)])
    assert told.exit_code == 0, told.output
    path = sorted(folder.glob("*.jsonl"))[0]
    path.write_bytes(path.read_bytes().replace(b'"classes":[1,0]', b'"classes":[0,0]', 1))
    told = CliRunner().invoke(app, ["verify", str(folder)])
    assert told.exit_code == 1
    assert f"{path.name}, line 3: was changed" in told.output.replace("\n", "")
    assert CliRunner().invoke(app, ["verify", str(folder / "none")]).exit_code == 2


def test_an_input_is_found_again_under_every_key_and_nothing_of_it_is_kept(tmp_path: Path) -> None:
    folder, body = tmp_path / "log", b'{"instances": [[1.5, 2.25]]}'
    (tmp_path / "body.json").write_bytes(body)
    np.save(tmp_path / "record.npy", np.array([[1.5, 2.25]], np.float32))
    log = DecisionLog(folder)
    log.record(decision(body=body, records=np.array([[9, 9], [1.5, 2.25]], np.float32)))
    log.close()
    assert CliRunner().invoke(app, ["rotate-key", str(folder)]).exit_code == 0
    log = DecisionLog(folder)
    log.record(decision(body=body, records=np.array([[1.5, 2.25]], np.float32), classes=[1]))
    log.record(decision())
    log.close()
    for file in ("body.json", "record.npy"):
        told = CliRunner().invoke(app, ["show", str(folder), "--input", str(tmp_path / file), "--json"])
        lines = [json.loads(line) for line in told.stdout.splitlines()]
        assert [line["records"] for line in lines] == [2, 1]
        assert len({line["key"] for line in lines}) == 2
    assert all(b"2.25" not in path.read_bytes() and b"1.5" not in path.read_bytes() for path in folder.glob("*.jsonl"))


def test_keys_that_others_can_read_are_refused(folder: Path) -> None:
    (folder / FILE).chmod(0o640)
    with pytest.raises(StorageError, match="chmod 600"):
        verify(folder)
