"""Where results live: models, answers and trials, one file each, whole or absent, on any file system of pyarrow."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay.outcomes import Outcomes
from assay.results import Check, Finding, Flag, Measurement, TrialRecord
from assay.store.earlier import typed
from assay.store.files import Files
from assay.store.index import ABOUT, Index, Offset, about_of
from assay.training.checkpoints import artefact_of

_FLAG = pa.struct([pa.field(name, pa.string()) for name in ("verdict", "message", "rule")])
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
        pa.field("reason", pa.string()),
        pa.field("flags", pa.list_(_FLAG)),
        pa.field("kind", pa.string()),
        pa.field("rule", pa.string()),
        pa.field("verdict", pa.string()),
        pa.field("concerns", pa.list_(pa.string())),
        pa.field("outcomes", pa.binary()),
    ]
)
"""One row a measurement or a check; ``conditions`` is JSON, ``outcomes`` as ``assay.outcomes`` packs them. Files of
earlier versions lack the columns from ``reason`` on, or ``outcomes``; they are filled where such a file is read."""
_FIGURES = pa.schema(list(MEASUREMENT_SCHEMA)[6:])
"""The same of an answer, which belongs to no cohort, recipe name or fold."""


class Store:
    """Results in one folder: models, answers about them, and trials, which are what a report shows of both.

    - ``artefacts/TRAINING.safetensors``: a trained model, named by what made it.
    - ``answers/TRAINING/ANSWER.parquet``: what one evaluation found of it, as it gave it back.
    - ``trials/TRIAL.parquet``: the rows of a trial, joined from its answers. It can be made anew without measuring.
    - ``index/``: the rows of all trials again, so that no page opens every file; it can be deleted.
    - ``study.yaml``, ``report.html``: what was asked, and the page.

    A trial is committed by the rename of its Parquet file, the last thing written; before that nobody sees it.

    Args:
        location: a folder, or a URI such as ``s3://bucket/folder``.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._files = Files(location)
        self._index = Index(self._files, self._load, MEASUREMENT_SCHEMA)
        self._writing = False
        """Whether this job holds the lock, and so keeps the index."""

    def finished(self) -> set[str]:
        """Ids of the trials that are stored and did not fail."""
        return {trial for trial, about in self._abouts() if not about["error"]}

    def outdated(self, trials: Iterable[str]) -> set[str]:
        """Ids of stored trials whose figures are of other weights than the model that is stored now.

        Only models that were written after their trial are read.
        """
        found = set()
        for trial, about in self._abouts(only=trials):
            training = about.get("training") or trial
            _, trained = self._files.stamp(f"artefacts/{training}.safetensors")
            if trained <= self._files.stamp(f"trials/{trial}.parquet")[1] or not about.get("artefact"):
                continue
            content = self.checkpoint(training)
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
        table = self._write_rows(f"trials/{record.trial}.parquet", record.rows(), about, schema=MEASUREMENT_SCHEMA)
        if self._writing:
            self._index.add(("trials", record.trial), table)

    def _write_rows(
        self, name: str, rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any], *, schema: pa.Schema
    ) -> pa.Table:
        table = pa.Table.from_pylist([_plain(row) for row in rows], schema=schema)
        table = table.replace_schema_metadata({ABOUT: json.dumps(about).encode()})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self._files.commit(name, sink.getvalue().to_pybytes())
        return table

    def answers(self, training: str, artefact: str) -> dict[str, tuple[Finding, ...]]:
        """What evaluations have found of a model, by the names of the answers.

        Args:
            artefact: hash of its weights; what was found of others, that an earlier training of this name left, is no
                answer about these.
        """
        found = {}
        for name in sorted(self.answered(training)):
            with self._files.opened(f"answers/{training}/{name}.parquet") as file:
                table = pq.read_table(file)
            if about_of(table)["artefact"] == artefact:
                found[name] = tuple(map(_finding, table.to_pylist()))
        return found

    def answered(self, training: str) -> set[str]:
        """Names of the answers that are stored about a model."""
        return self._files.names(f"answers/{training}")

    def write_checkpoint(self, training: str, content: bytes) -> None:
        """Keep a trained model, before it is measured too, so that a resumed study need not train it again."""
        self._files.commit(f"artefacts/{training}.safetensors", content)

    def models(self) -> list[str]:
        """Names of the models that are stored."""
        return sorted(self._files.names("artefacts", ".safetensors"))

    def checkpoint(self, training: str) -> bytes | None:
        """The weights of a model, None if there are none. Those of earlier versions lie under the trial's id."""
        for folder in ("artefacts", "checkpoints"):
            if self._files.exists(name := f"{folder}/{training}.safetensors"):
                return self._files.read(name)
        return None

    def delete(self, training: str) -> None:
        """Delete a model, everything measured of it, every trial that shows it, and the pages that show these."""
        files = [f"{folder}/{training}.safetensors" for folder in ("artefacts", "checkpoints")]
        for folder in ("trials", "superseded"):
            shown = [trial for trial, about in self._abouts(folder) if (about.get("training") or trial) == training]
            files += [f"{folder}/{trial}.parquet" for trial in shown]
        # A job that is killed here leaves no index, rather than one that still has these rows.
        self._index.erase()
        for name in (*files, "report.html", "sweep.html"):
            # What a killed job was writing lies beside them.
            folder, _, file = name.rpartition("/")
            self._files.delete(name)
            self._files.delete(f"{folder}/.{file}.tmp".lstrip("/"))
        self._files.delete_folders("answers", training, whole=True)
        # What Ray Train keeps on the way lies in folders that begin with the model's name.
        self._files.delete_folders("ray_train", training)
        self._keep_index()

    def write_text(self, name: str, text: str) -> str:
        """Replace one file of the study; its full path or URI."""
        return self._files.commit(name, text.encode())

    def read_text(self, name: str) -> str:
        """One text file of the study; empty if there is none."""
        return self._files.read(name).decode() if self._files.exists(name) else ""

    def keep_only(self, planned: Iterable[str]) -> None:
        """Make ``trials`` the current plan: others go to ``superseded``, and come back when they are planned again."""
        wanted = set(planned)
        for trial in self._files.names("trials") - wanted:
            self._files.move(f"trials/{trial}.parquet", f"superseded/{trial}.parquet")
        for trial in (self._files.names("superseded") & wanted) - self._files.names("trials"):
            self._files.move(f"superseded/{trial}.parquet", f"trials/{trial}.parquet")
        self._keep_index()

    def frame(self) -> pd.DataFrame:
        """Every row of every stored trial, ``conditions`` as mappings.

        Beside it stand the ``cohort`` it was asked for and whether an ``official`` split was used.
        """
        self._index.refresh()
        tables = [(self._index.rows("trials", trial)) for trial in self._index.trials("trials")]
        asked = [about_of(table).get("asked", {}) for table in tables]
        plain = [table.replace_schema_metadata(None) for table in tables]
        frame = pa.concat_tables(plain or [MEASUREMENT_SCHEMA.empty_table()]).to_pandas()
        counts = [table.num_rows for table in tables]
        frame["cohort"] = np.repeat([about.get("cohort", "") for about in asked], counts)
        frame["official"] = np.repeat([bool(about.get("official", False)) for about in asked], counts)
        # Plain objects lie in one block, and every selection of the report copies block by block.
        texts = dict.fromkeys(frame.select_dtypes("string"), object)
        frame = frame.astype({**texts, "cohort": object, "official": bool})
        for key in ("reason", "verdict"):  # pandas makes NaN of a text that is absent
            frame[key] = pd.Series([text if isinstance(text, str) else None for text in frame[key]], dtype=object)
        frame["conditions"] = [json.loads(text) for text in frame["conditions"]]
        for key in ("warnings", "concerns"):
            frame[key] = [list(texts) for texts in frame[key]]
        flags = [tuple(Flag(**flag) for flag in flags) for flags in frame["flags"]]
        frame["flags"] = pd.Series(flags, index=frame.index, dtype=object)
        outcomes = [Outcomes(packed) if isinstance(packed, bytes) else None for packed in frame["outcomes"]]
        frame["outcomes"] = pd.Series(outcomes, index=frame.index, dtype=object)
        return frame

    def columns(self) -> pa.Table:
        """One row a trial of the current plan, with its headline figures: what a page of many trials begins with.

        The columns are ``assay.store.index.COLUMNS``; they are mapped into memory, and no results file is opened.
        """
        self._index.refresh()
        table = self._index.columns()
        return table.filter(pc.equal(table["folder"], "trials")).drop_columns(["folder"])

    def since(self, offset: Offset | None) -> tuple[list[str], Offset]:
        """Ids of the trials that were written, moved or deleted since an offset, and the offset of now.

        Args:
            offset: as it was given back before; None for all trials.
        """
        places, now = self._index.tail(offset)
        return sorted({trial for _, trial in places}), now

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one job writes a study at a time. The lock dies with its process, however it dies.

        Raises:
            UserError: another job holds it.
        """
        with self._files.locked():
            self._writing = True
            try:
                self._keep_index()
                yield
                self._keep_index()
                self._index.write_columns()
            finally:
                self._writing = False

    def _keep_index(self) -> None:
        """Bring the index up to date with the files, where this job is the one that writes."""
        if self._writing:
            self._index.refresh()
            self._index.save()

    def _abouts(
        self, folder: str = "trials", only: Iterable[str] | None = None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """What each trial was asked and where it ran, by id.

        Args:
            only: ids of the trials that are wanted; all by default.
        """
        self._index.refresh()
        trials = self._index.trials(folder)
        for trial in trials if only is None else sorted(set(trials) & set(only)):
            yield trial, self._index.about(folder, trial)

    def _load(self, folder: str, trial: str) -> pa.Table:
        with self._files.opened(f"{folder}/{trial}.parquet") as file:
            table = pq.read_table(file)
            about_of(table)
        if "kind" not in table.column_names:
            return _of_earlier_version(table)
        if "outcomes" not in table.column_names:
            return table.append_column(MEASUREMENT_SCHEMA.field("outcomes"), pa.nulls(len(table), pa.binary()))
        return table


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as Parquet takes it."""
    lists = {key: list(row[key]) for key in ("warnings", "concerns")}
    flags = [vars(flag) for flag in row["flags"]]
    outcomes = None if row["outcomes"] is None else row["outcomes"].packed
    return {**row, **lists, "conditions": json.dumps(row["conditions"]), "flags": flags, "outcomes": outcomes}


def _of_earlier_version(table: pa.Table) -> pa.Table:
    """The rows of a file that lacks the typed columns, with them."""
    rows = [typed({**row, "conditions": json.loads(row["conditions"])}) for row in table.to_pylist()]
    plain = [{**row, "conditions": json.dumps(row["conditions"])} for row in rows]
    return pa.Table.from_pylist(plain, schema=MEASUREMENT_SCHEMA.with_metadata(table.schema.metadata))


def _finding(row: Mapping[str, Any]) -> Finding:
    """What an evaluation gave back, from its row."""
    row = typed({**row, "conditions": json.loads(row["conditions"])})
    fields: dict[str, Any] = {
        key: row[key] for key in ("name", "unit", "n", "status", "reason", "kind", "rule", "verdict", "conditions")
    }
    fields |= {key: math.nan if row[key] is None else row[key] for key in ("value", "low", "high")}
    fields |= {key: tuple(row[key]) for key in ("warnings", "concerns")}
    if row.get("outcomes"):
        fields["outcomes"] = Outcomes(row["outcomes"])
    found = Measurement(**fields, flags=tuple(Flag(**flag) for flag in row["flags"]))
    return Check.of(found) if found.kind == "check" else found
