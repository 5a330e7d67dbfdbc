"""Where results live: models, answers and trials, one file each, whole or absent, on any file system of pyarrow."""

import json
import math
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from assay.errors import StorageError, UserError, storage_errors
from assay.results import CHECK, Check, Finding, Measurement, TrialRecord
from assay.training.checkpoints import artefact_of

MEASUREMENT_SCHEMA = pa.schema(
    [
        pa.field("trial", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("recipe", pa.string(), nullable=False),
        pa.field("fold", pa.int32(), nullable=False),
        pa.field("repeat", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("unit", pa.string()),
        pa.field("conditions", pa.string()),
        pa.field("n", pa.int64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("warnings", pa.list_(pa.string())),
    ]
)
"""One row a measurement; ``conditions`` is JSON."""
_FIGURES = pa.schema(list(MEASUREMENT_SCHEMA)[6:])
"""The same of an answer, which belongs to no cohort, recipe name or fold."""

_ABOUT = b"assay"


def _reached(location: str) -> tuple[fs.FileSystem, str]:
    """The file system that a URI names, and the path there.

    Raises:
        StorageError: the URI is none, or the store cannot be reached.
    """
    try:
        return fs.FileSystem.from_uri(location)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise StorageError(
            f"results would go to {location!r}, which cannot be used: {error}; give --results a folder, or a URI such "
            "as s3://bucket/folder",
            setting="results",
            given=location,
        ) from error


class Store:
    """Results in one folder: models, answers about them, and trials, which are what a report shows of both.

    - ``artefacts/TRAINING.safetensors``: a trained model, named by what made it.
    - ``answers/TRAINING/ANSWER.parquet``: what one evaluation found of it, as it gave it back.
    - ``trials/TRIAL.parquet``: the rows of a trial, joined from its answers. It can be made anew without measuring.
    - ``study.yaml``, ``report.html``: what was asked, and the page.

    A trial is committed by the rename of its Parquet file, the last thing written; before that nobody sees it.

    Args:
        location: a folder, or a URI such as ``s3://bucket/folder``.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        if "://" in location:
            self._files, self._root = _reached(location)
        else:
            self._files, self._root = fs.LocalFileSystem(), str(Path(location).expanduser().resolve())
            if Path(self._root).exists() and not Path(self._root).is_dir():
                raise StorageError(
                    f"results would go to {self._root!r}, which is a file; give --results a folder",
                    setting="results",
                    given=self._root,
                )
        self._local = isinstance(self._files, fs.LocalFileSystem)

    def finished(self) -> set[str]:
        """Ids of the trials that are stored and did not fail."""
        return {trial for trial, about in self._abouts() if not about["error"]}

    def outdated(self, trials: Iterable[str]) -> set[str]:
        """Ids of stored trials whose figures are of other weights than the model that is stored now.

        Only models that were written after their trial are read.
        """
        found = set()
        for trial in set(trials) & self._names("trials"):
            with self._opened(f"trials/{trial}.parquet") as file:
                about = json.loads(pq.read_schema(file).metadata[_ABOUT])
            names = (f"artefacts/{about.get('training') or trial}.safetensors", f"trials/{trial}.parquet")
            model, row = self._files.get_file_info([self._path(name) for name in names])
            if model.type != fs.FileType.File or model.mtime_ns <= row.mtime_ns or not about.get("artefact"):
                continue
            content = self.checkpoint(about.get("training") or trial)
            if content is not None and artefact_of(content) != about["artefact"]:
                found.add(trial)
        return found

    def superseded(self) -> set[str]:
        """Ids of trials of an earlier plan that did not fail; ``keep_only`` brings them back if they are wanted."""
        return {trial for trial, about in self._abouts("superseded") if not about["error"]}

    def failures(self) -> dict[str, str]:
        """Errors of the stored trials that failed, by id."""
        return {trial: about["error"] for trial, about in self._abouts() if about["error"]}

    def asked(self) -> dict[str, dict[str, Any]]:
        """What each stored trial asked, by id: its recipe, model, split and evaluations as plain values."""
        return {trial: about["asked"] for trial, about in self._abouts() if "asked" in about}

    def trained_on(self, identity: str, name: str) -> dict[str, bool]:
        """Models of the trials that were trained on a data set, or a sample of it, and did not fail, by name; True if
        privately.

        Those of earlier plans are among them.

        Args:
            identity: of the whole data set; see ``Dataset.identity``.
            name: of it; trials of earlier versions tell no identity.
        """
        found = {}
        for trial, about in (*self._abouts("superseded"), *self._abouts()):
            data = about.get("data", {})
            ours = data["identity"] == identity if "identity" in data else data.get("name", name) == name
            if ours and not about["error"] and "recipe" in about.get("asked", {}):
                found[about.get("training") or trial] = bool(about["asked"]["recipe"]["privacy"])
        return found

    def trainings(self) -> dict[str, str]:
        """Name of the model of each stored trial, by the trial's id; of an earlier version they are the same."""
        return {trial: about.get("training") or trial for trial, about in self._abouts()}

    def artefacts(self) -> dict[str, str]:
        """Hash of the checkpoint on which each stored trial was measured, by id, where it is known."""
        return {trial: about["artefact"] for trial, about in self._abouts() if about.get("artefact")}

    def write(self, record: TrialRecord) -> None:
        """Store a trial: its model first, then what each evaluation found, then, in one step, the trial itself."""
        training = record.training or record.trial
        if record.weights:
            self.write_checkpoint(training, record.weights)
        weights = artefact_of(record.weights) if record.weights else record.artefact
        for name, answer in record.answers.items():
            versions = {key: record.provenance.get(key) for key in ("versions", "source")}
            about = {"training": training, "artefact": weights, "asked": answer.asked, **versions}
            self._write_rows(f"answers/{training}/{name}.parquet", answer.rows(), about, schema=_FIGURES)
        about = {
            "error": record.error,
            "seconds": record.seconds,
            "training": training,
            "artefact": weights,
            **record.provenance,
        }
        self._write_rows(f"trials/{record.trial}.parquet", record.rows(), about, schema=MEASUREMENT_SCHEMA)

    def _write_rows(
        self, name: str, rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any], *, schema: pa.Schema
    ) -> None:
        plain = [
            {**row, "conditions": json.dumps(row["conditions"]), "warnings": list(row["warnings"])} for row in rows
        ]
        table = pa.Table.from_pylist(plain, schema=schema)
        table = table.replace_schema_metadata({_ABOUT: json.dumps(about).encode()})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self._commit(name, sink.getvalue().to_pybytes())

    def answers(self, training: str, artefact: str) -> dict[str, tuple[Finding, ...]]:
        """What evaluations have found of a model, by the names of the answers.

        Args:
            artefact: hash of its weights; what was found of others, that an earlier training of this name left, is no
                answer about these.
        """
        found = {}
        for name in sorted(self.answered(training)):
            with self._opened(f"answers/{training}/{name}.parquet") as file:
                table = pq.read_table(file)
            if json.loads(table.schema.metadata[_ABOUT])["artefact"] == artefact:
                found[name] = tuple(map(_finding, table.to_pylist()))
        return found

    def answered(self, training: str) -> set[str]:
        """Names of the answers that are stored about a model."""
        return self._names(f"answers/{training}")

    def write_checkpoint(self, training: str, content: bytes) -> None:
        """Keep a trained model, before it is measured too, so that a resumed study need not train it again."""
        self._commit(f"artefacts/{training}.safetensors", content)

    def models(self) -> list[str]:
        """Names of the models that are stored."""
        return sorted(self._names("artefacts", ".safetensors"))

    def checkpoint(self, training: str) -> bytes | None:
        """The weights of a model, None if there are none. Those of earlier versions lie under the trial's id."""
        for folder in ("artefacts", "checkpoints"):
            path = self._path(f"{folder}/{training}.safetensors")
            if self._files.get_file_info(path).type == fs.FileType.File:
                with self._files.open_input_file(path) as file:
                    return bytes(file.read())
        return None

    def delete(self, training: str) -> None:
        """Delete a model, everything measured of it, every trial that shows it, and the pages that show these."""
        files = [f"{folder}/{training}.safetensors" for folder in ("artefacts", "checkpoints")]
        for folder in ("trials", "superseded"):
            shown = [trial for trial, about in self._abouts(folder) if (about.get("training") or trial) == training]
            files += [f"{folder}/{trial}.parquet" for trial in shown]
        # What a killed job was writing lies beside them.
        files += [posixpath.join(posixpath.dirname(name), f".{posixpath.basename(name)}.tmp") for name in files]
        for name in (*files, "report.html", "sweep.html"):
            if self._files.get_file_info(self._path(name)).type == fs.FileType.File:
                self._files.delete_file(self._path(name))
        if self._files.get_file_info(self._path(f"answers/{training}")).type == fs.FileType.Directory:
            self._files.delete_dir(self._path(f"answers/{training}"))
        # What Ray Train keeps on the way lies in folders that begin with the model's name.
        selector = fs.FileSelector(self._path("ray_train"), allow_not_found=True)
        for info in self._files.get_file_info(selector):
            if info.type == fs.FileType.Directory and posixpath.basename(info.path).startswith(training):
                self._files.delete_dir(info.path)

    def write_text(self, name: str, text: str) -> str:
        """Replace one file of the study; its full path or URI."""
        return self._commit(name, text.encode())

    def read_text(self, name: str) -> str:
        """One text file of the study; empty if there is none."""
        if self._files.get_file_info(self._path(name)).type != fs.FileType.File:
            return ""
        with self._files.open_input_file(self._path(name)) as file:
            return file.read().decode()

    def keep_only(self, planned: Iterable[str]) -> None:
        """Make ``trials`` the current plan: others go to ``superseded``, and come back when they are planned again."""
        wanted = set(planned)
        for trial in self._names("trials") - wanted:
            self._move(trial, "trials", "superseded")
        for trial in (self._names("superseded") & wanted) - self._names("trials"):
            self._move(trial, "superseded", "trials")

    def frame(self) -> pd.DataFrame:
        """Every row of every stored trial, ``conditions`` as mappings.

        Beside it stand the ``cohort`` it was asked for and whether an ``official`` split was used.
        """
        asked = {trial: about.get("asked", {}) for trial, about in self._abouts()}
        tables = [self._read(trial) for trial in sorted(asked)]
        frame = pa.concat_tables(tables or [MEASUREMENT_SCHEMA.empty_table()]).to_pandas()
        frame["cohort"] = [asked[trial].get("cohort", "") for trial in frame["trial"]]
        frame["official"] = [bool(asked[trial].get("official", False)) for trial in frame["trial"]]
        # Plain objects lie in one block, and every selection of the report copies block by block.
        texts = dict.fromkeys(frame.select_dtypes("string"), object)
        frame = frame.astype({**texts, "cohort": object, "official": bool})
        frame["conditions"] = [json.loads(text) for text in frame["conditions"]]
        frame["warnings"] = [list(warnings) for warnings in frame["warnings"]]
        return frame

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one job writes a study at a time. The lock dies with its process, however it dies.

        Raises:
            UserError: another job holds it.
        """
        if not self._local:
            yield
            return
        import fcntl

        with storage_errors(self._root, setting="results"):
            Path(self._root).mkdir(parents=True, exist_ok=True)
            lock = (Path(self._root) / ".lock").open("w")
        with lock as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another job is writing {self._root}; wait for it, or give --results elsewhere"
                ) from None
            yield

    def _abouts(self, folder: str = "trials") -> Iterator[tuple[str, dict[str, Any]]]:
        for trial in sorted(self._names(folder)):
            with self._opened(f"{folder}/{trial}.parquet") as file:
                about = json.loads(pq.read_schema(file).metadata[_ABOUT])
            yield trial, about

    def _read(self, trial: str) -> pa.Table:
        with self._opened(f"trials/{trial}.parquet") as file:
            return pq.read_table(file).replace_schema_metadata(None)

    @contextmanager
    def _opened(self, name: str) -> Iterator[Any]:
        """A results file for reading; a damaged one is named."""
        path = self._path(name)
        try:
            with storage_errors(path, setting="results"), self._files.open_input_file(path) as file:
                yield file
        except (pa.ArrowInvalid, KeyError, TypeError, json.JSONDecodeError) as error:
            raise StorageError(
                f"{path!r} is damaged or no results of Assay ({error}); delete it, and its trial runs again",
                setting="results",
                given=path,
            ) from error

    def _names(self, folder: str, suffix: str = ".parquet") -> set[str]:
        selector = fs.FileSelector(self._path(folder), allow_not_found=True)
        return {
            posixpath.basename(info.path).removesuffix(suffix)
            for info in self._files.get_file_info(selector)
            if info.path.endswith(suffix)
        }

    def _move(self, trial: str, source: str, target: str) -> None:
        self._files.create_dir(self._path(target))
        self._files.move(self._path(f"{source}/{trial}.parquet"), self._path(f"{target}/{trial}.parquet"))

    def _commit(self, name: str, content: bytes) -> str:
        """Write under another name, sync, rename: a reader sees all of it or nothing."""
        path = self._path(name)
        with storage_errors(path, setting="results"):
            self._write(path, content)
        return path

    def _write(self, path: str, content: bytes) -> None:
        self._files.create_dir(posixpath.dirname(path))
        if not self._local:
            # Object stores show an object only when it is complete.
            with self._files.open_output_stream(path) as sink:
                sink.write(content)
            return
        # A leading dot: pyarrow, pandas and DuckDB pass over what a killed job may leave behind.
        temporary = Path(path).with_name(f".{posixpath.basename(path)}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name)


def _finding(row: Mapping[str, Any]) -> Finding:
    """What an evaluation gave back, from its row."""
    fields: dict[str, Any] = {key: row[key] for key in ("name", "unit", "n", "status")}
    fields |= {key: math.nan if row[key] is None else row[key] for key in ("value", "low", "high")}
    found = Measurement(**fields, conditions=json.loads(row["conditions"]), warnings=tuple(row["warnings"]))
    return Check.of(found) if found.name.startswith(CHECK) else found
