"""Stores models, results and trials, one complete file each, on any file system of pyarrow."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay.outcomes import Outcomes
from assay.results import Finding, Flag, TrialRecord
from assay.store.columns import ABOUT, about_of
from assay.store.files import Files
from assay.store.index import Index, Offset
from assay.store.reader import load_rows
from assay.store.rows import FIGURES, MEASUREMENT_SCHEMA, finding, plain
from assay.training.checkpoints import artefact_of

JUDGED = "judged"
"""Folder within that of a sweep: what its chosen models show on the test records."""


class Store:
    """Results in one folder: models, results of evaluations, and trials, which the report shows.

    - ``artefacts/TRAINING.safetensors``: a trained model, named by its key.
    - ``answers/TRAINING/ANSWER.parquet``: the findings of one evaluation of it.
    - ``trials/TRIAL.parquet``: the rows of a trial, joined from these findings. It can be made again without measuring.
    - ``unfinished/TRAINING/``: rounds of a federated training that was stopped, or the state of a training at a rung of
      a sweep; removed at its end.
    - ``rungs/TRAINING-RUNG.json``: what a sweep measured of a training at a rung.
    - ``judged/``: a store of its own, with what the chosen models of a sweep show on the test records.
    - ``index/``: the rows of all trials again, so that no page opens every file; it can be deleted.
    - ``progress.json``: how far the job is that runs; see ``assay.store.progress``.
    - ``study.yaml``, ``report.html``: the study, and the page.

    A trial is committed by the rename of its Parquet file, the last thing written; readers do not see it before.

    Args:
        location: a folder, or a URI such as ``s3://bucket/folder``.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._files = Files(location)
        self._index = Index(self._files, partial(load_rows, self._files), MEASUREMENT_SCHEMA)
        self._writing = False
        """Whether this job holds the lock, and so keeps the index."""

    def finished(self) -> set[str]:
        """Returns the ids of the trials that are stored and did not fail.

        Returns:
            The ids.
        """
        return {trial for trial, about in self._abouts() if not about["error"]}

    def outdated(self, trials: Iterable[str]) -> set[str]:
        """Returns the ids of stored trials that were measured on other weights than the model that is stored now.

        Only models that were written after their trial are read.

        Args:
            trials: ids to check.

        Returns:
            The ids.
        """
        outdated = set()
        for trial, about in self._abouts(only=trials):
            training = about.get("training") or trial
            _, trained = self._files.stamp(f"artefacts/{training}.safetensors")
            if trained <= self._files.stamp(f"trials/{trial}.parquet")[1] or not about.get("artefact"):
                continue
            content = self.checkpoint(training)
            if content is not None and artefact_of(content) != about["artefact"]:
                outdated.add(trial)
        return outdated

    def superseded(self) -> set[str]:
        """Returns the ids of trials of an earlier plan that did not fail; see ``keep_only``.

        Returns:
            The ids.
        """
        return {trial for trial, about in self._abouts("superseded") if not about["error"]}

    def failures(self) -> dict[str, str]:
        """Returns the errors of the stored trials that failed.

        Returns:
            Errors by id.
        """
        return {trial: about["error"] for trial, about in self._abouts() if about["error"]}

    def asked(self) -> dict[str, dict[str, Any]]:
        """Returns the settings of each stored trial: its recipe, model, split and evaluations as plain values.

        Returns:
            Settings by id.
        """
        return {trial: about["asked"] for trial, about in self._abouts() if "asked" in about}

    def trained_on(self, identity: str, name: str) -> dict[str, bool]:
        """Returns the models that were trained on a data set, or a sample of it, and whether each is private.

        Failed trials are left out; those of earlier plans count.

        Args:
            identity: of the whole data set; see ``Dataset.identity``.
            name: of the data set; trials of earlier versions store no identity.

        Returns:
            By the key of the model, True if it was trained privately.
        """
        private = {}
        for trial, about in (*self._abouts("superseded"), *self._abouts()):
            data = about.get("data", {})
            same_data = data["identity"] == identity if "identity" in data else data.get("name", name) == name
            if same_data and not about["error"] and "recipe" in about.get("asked", {}):
                private[about.get("training") or trial] = bool(about["asked"]["recipe"]["privacy"])
        return private

    def trainings(self) -> dict[str, str]:
        """Returns the key of the model of each stored trial; in earlier versions it equals the trial's id.

        Returns:
            Keys by id.
        """
        return {trial: about.get("training") or trial for trial, about in self._abouts()}

    def artefacts(self) -> dict[str, str]:
        """Returns the hash of the checkpoint on which each stored trial was measured, where it is known.

        Returns:
            Hashes by id.
        """
        return {trial: about["artefact"] for trial, about in self._abouts() if about.get("artefact")}

    def write(self, record: TrialRecord) -> None:
        """Stores a trial: its model first, then the findings of each evaluation, then, in one step, the trial itself.

        Args:
            record: of the trial.
        """
        training = record.training or record.trial
        if record.weights:
            self.write_checkpoint(training, record.weights)
        weights = artefact_of(record.weights) if record.weights else record.artefact
        for name, answer in record.answers.items():
            versions = {key: record.provenance.get(key) for key in ("versions", "source")}
            about = {"training": training, "artefact": weights, "asked": answer.asked, **versions}
            self._write_rows(f"answers/{training}/{name}.parquet", answer.rows(), about, schema=FIGURES)
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
        table = pa.Table.from_pylist([plain(row) for row in rows], schema=schema)
        table = table.replace_schema_metadata({ABOUT: json.dumps(about).encode()})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self._files.commit(name, sink.getvalue().to_pybytes())
        return table

    def answers(self, training: str, artefact: str) -> dict[str, tuple[Finding, ...]]:
        """Returns the stored findings of a model.

        Args:
            training: key of the model.
            artefact: hash of its weights; findings on other weights, from an earlier training with this key, are left
                out.

        Returns:
            Findings by the keys of the results.
        """
        findings = {}
        for name in sorted(self.answered(training)):
            with self._files.opened(f"answers/{training}/{name}.parquet") as file:
                table = pq.read_table(file)
            if about_of(table)["artefact"] == artefact:
                findings[name] = tuple(map(finding, table.to_pylist()))
        return findings

    def answered(self, training: str) -> set[str]:
        """Returns the keys of the results that are stored for a model.

        Args:
            training: key of the model.

        Returns:
            The keys.
        """
        return self._files.names(f"answers/{training}")

    def write_checkpoint(self, training: str, content: bytes) -> None:
        """Stores a trained model, also before it is measured, so that a resumed study need not train it again.

        Args:
            training: key of the model.
            content: of the checkpoint.
        """
        self._files.commit(f"artefacts/{training}.safetensors", content)

    def models(self) -> list[str]:
        """Returns the keys of the models that are stored.

        Returns:
            The keys, sorted.
        """
        return sorted(self._files.names("artefacts", ".safetensors"))

    def checkpoint(self, training: str) -> bytes | None:
        """Returns the checkpoint of a model; those of earlier versions are stored under the trial's id.

        Args:
            training: key of the model.

        Returns:
            Its content; None if there is none.
        """
        for folder in ("artefacts", "checkpoints"):
            if self._files.exists(name := f"{folder}/{training}.safetensors"):
                return self._files.read(name)
        return None

    def unfinished(self, training: str) -> Path | None:
        """Returns the folder for rounds of a federated training that has not ended, so that it can go on after a crash.

        Args:
            training: its key.

        Returns:
            The folder, which may not exist; None in an object store, where nothing can be renamed.
        """
        return None if "://" in self.location else Path(self.location) / "unfinished" / training

    def delete(self, *trainings: str) -> None:
        """Deletes models, all results on them, every trial that shows one, and the pages that show these trials.

        What killed jobs left half-written in the folder is deleted too: it may be of these models.

        Args:
            trainings: keys of the models.
        """
        files = [f"{folder}/{key}.safetensors" for folder in ("artefacts", "checkpoints") for key in trainings]
        for folder in ("trials", "superseded"):
            shown = [trial for trial, about in self._abouts(folder) if (about.get("training") or trial) in trainings]
            files += [f"{folder}/{trial}.parquet" for trial in shown]
        # Erased first: a job that is killed here must not leave an index with these rows.
        self._index.erase()
        for name in (*files, "report.html", "sweep.html"):
            self._files.delete(name)
        for folder in ("", "artefacts", "checkpoints", "trials", "superseded", "index"):
            self._files.delete_temporary(folder)
        for training in trainings:
            self._files.delete_folder(f"answers/{training}")
            # Ray Train keeps intermediate checkpoints in folders whose names begin with the model's key.
            self._files.delete_folders("ray_train", training)
            # Rounds, and states and results of trainings that a sweep stopped.
            self._files.delete_folder(f"unfinished/{training}")
            for name in self._files.names("rungs", ".json"):
                if name.startswith(f"{training}-"):
                    self._files.delete(f"rungs/{name}.json")
        if self._files.names(f"{JUDGED}/trials"):
            with Store(f"{self.location}/{JUDGED}").locked() as judged:
                judged.delete(*trainings)
        self._keep_index()

    def write_text(self, name: str, text: str) -> str:
        """Replaces one text file of the study.

        Args:
            name: of the file.
            text: its content.

        Returns:
            The full path or URI.
        """
        return self._files.commit(name, text.encode())

    def read_text(self, name: str) -> str:
        """Reads one text file of the study.

        Args:
            name: of the file.

        Returns:
            Its content; empty if there is no such file.
        """
        return self._files.read_text(name)

    def keep_only(self, planned: Iterable[str]) -> None:
        """Makes ``trials`` the current plan: other trials move to ``superseded``, and return when planned again.

        Args:
            planned: ids of the trials of the plan.
        """
        wanted = set(planned)
        for trial in self._files.names("trials") - wanted:
            self._files.move(f"trials/{trial}.parquet", f"superseded/{trial}.parquet")
        for trial in (self._files.names("superseded") & wanted) - self._files.names("trials"):
            self._files.move(f"superseded/{trial}.parquet", f"trials/{trial}.parquet")
        self._keep_index()

    def frame(self, only: Iterable[str] | None = None) -> pd.DataFrame:
        """Returns every row of every stored trial, with ``conditions`` as mappings.

        Args:
            only: ids of the trials that are wanted; all by default.

        Returns:
            The columns of ``MEASUREMENT_SCHEMA``, the ``cohort`` of the trial, and whether it used an ``official``
            split.
        """
        self._index.refresh()
        trials = self._index.trials("trials")
        wanted = trials if only is None else sorted(set(trials) & set(only))
        tables = [self._index.rows("trials", trial) for trial in wanted]
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
        """Returns one row for each trial of the current plan, with its headline figures, for pages of many trials.

        The columns are mapped into memory, and no results file is opened.

        Returns:
            The columns ``assay.store.index.COLUMNS``.
        """
        self._index.refresh()
        table = self._index.columns()
        return table.filter(pc.equal(table["folder"], "trials")).drop_columns(["folder"])

    def since(self, offset: Offset | None) -> tuple[list[str], Offset]:
        """Returns the trials that were written, moved or deleted since an offset.

        Args:
            offset: as it was returned before; None for all trials.

        Returns:
            Ids of the trials, and the present offset.
        """
        places, now = self._index.tail(offset)
        return sorted({trial for _, trial in places}), now

    @contextmanager
    def locked(self) -> Iterator["Store"]:
        """Takes the lock of the store, so that one job writes a study at a time. The lock ends with its process.

        Returns:
            Context manager; its value is this store.

        Raises:
            UserError: another job has the lock.
        """
        with self._files.locked():
            self._writing = True
            try:
                self._keep_index()
                yield self
                self._keep_index()
                self._index.write_columns()
            finally:
                self._writing = False

    def _keep_index(self) -> None:
        """Updates the index from the files, where this job has the lock."""
        if self._writing:
            self._index.refresh()
            self._index.save()

    def _abouts(
        self, folder: str = "trials", only: Iterable[str] | None = None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Returns the metadata of each trial with its id.

        Args:
            only: ids of the trials that are wanted; all by default.
        """
        self._index.refresh()
        trials = self._index.trials(folder)
        for trial in trials if only is None else sorted(set(trials) & set(only)):
            yield trial, self._index.about(folder, trial)
