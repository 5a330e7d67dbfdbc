"""Evidence for a checkpoint that Assay did not train."""

import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from assay import seeds
from assay.data.base import Dataset
from assay.data.splits import split
from assay.devices import device
from assay.errors import SpecError
from assay.evaluations.base import Evaluation
from assay.evaluations.subject import Subject
from assay.executors import Executor, LocalExecutor
from assay.models.base import Architecture
from assay.registry import as_number
from assay.results import Measurement, TrialRecord
from assay.store.folder import Store
from assay.study.external_model import architecture_of, loaded, with_logits
from assay.study.identity import hash_of, key_of_answer
from assay.study.measure import AnswerLog, ask
from assay.study.provenance import dependencies, source_digest, versions
from assay.study.reading import build_study
from assay.study.run import write_study
from assay.study.sources import digest_of, modules_in
from assay.study.spec import GIVEN, Study
from assay.threats import NORMS
from assay.training.checkpoints import artefact_of, to_bytes

_ADAPTER_MODULE = "assay.study.external_model"
"""Code that adapts a model from elsewhere to evaluations; part of what names its artefact."""


def given_study(
    name: str,
    *,
    model: str,
    data: Mapping[str, Any],
    threat: str,
    seed: int,
    immutable: tuple[str, ...] = (),
    attacks: tuple[str, ...] = (),
    records: int | None = None,
    output: str | None = None,
) -> Study:
    """Builds the study that runs all evaluations on one model from elsewhere.

    Args:
        name: of the study.
        model: ``package.module:factory``, or the path of an ``.onnx`` or ``.skops`` file.
        data: settings of a data set; of ``arrays`` if they name none.
        threat: ``linf``, ``l2``, or with radii: ``linf:0.05,0.1,0.2`` or ``linf:8/255``.
        seed: of the study.
        immutable: features that nobody can change.
        attacks: names of attacks beyond the usual ones.
        records: how many are attacked and certified, stratified; all by default.
        output: ``logits`` or ``probabilities``, what the model returns; found out by default.

    Returns:
        A study with one cohort and one recipe.

    Raises:
        SpecError: the threat is not of that form, or a setting is impossible.
    """
    norm, epsilons = _radii(threat)
    cohort = {
        "dataset": {"name": "arrays", **data},
        "model": architecture_of(model, output),
        "recipes": {GIVEN: {}},
        "immutable": immutable,
        "evaluations": [
            "accuracy",
            {"name": "robustness", "norm": norm, "epsilons": epsilons, "attacks": attacks, "records": records},
            *([{"name": "certificates", "epsilons": epsilons, "records": records}] if norm == "linf" else []),
            "privacy",
            "membership",
            "explanations",
            "shift",
            "selective",
            "conformal",
            "out_of_distribution",
            "cost",
        ],
    }
    raw = {
        "name": name,
        "title": f"Evidence for {model}",
        "seed": seed,
        "split": {"folds": 1},
        "baseline": GIVEN,
        "cohorts": {"given": cohort},
    }
    return build_study(raw, "evaluate")


def evaluate_given(
    study: Study,
    dataset: Dataset,
    store: Store,
    weights: str | None,
    *,
    environment: Mapping[str, Any],
    executor: Executor | None = None,
) -> TrialRecord:
    """Runs all evaluations of a study on a model from elsewhere, and stores the results.

    All records of the data set are used. An evaluation that fails becomes one failed measurement; the others still run.

    Args:
        study: see ``given_study``.
        dataset: of its cohort.
        store: where the results are written.
        weights: a safetensors file; None where the model brings its own.
        environment: where this runs, for the record.
        executor: its workers share the records, with one thread each; this process alone by default.

    Returns:
        The stored record.

    Raises:
        CheckpointError: the weights cannot be read, or the model cannot take the records.
    """
    started = time.perf_counter()
    cohort = study.cohorts["given"]
    parts = split(dataset, study.split, fold=0, repeat=0, seed=study.seed)
    # With no training records: what a preparation cannot do by stated figures alone is an error.
    dataset = _with_scales(dataset.prepared(parts.train, seed=study.seed))
    model = cohort.model.build_for(dataset.form, seed=study.seed)
    tensors = loaded(model, weights)
    model = with_logits(model.to(device()).eval(), dataset, device(), output=getattr(cohort.model, "output", None))
    subject = Subject(
        model=model,
        dataset=dataset,
        split=parts,
        recipe=None,
        log=None,
        seed=seeds.derive(study.seed, "given"),
        device=device(),
        executor=executor or LocalExecutor(),
        task=cohort.task,
    )
    training = _name(study, dataset, cohort.model, tensors)
    key_of = partial(key_of_answer, training, task=cohort.task, records=dataset.evaluation_digest)
    trial = hash_of({"training": training, "asked": [key_of(evaluation) for evaluation in cohort.evaluations]})
    content = to_bytes(tensors, {})
    with store.locked():
        store.keep_only([trial])
        write_study(study, store, {trial: GIVEN}, environment)
        answers = AnswerLog(
            name_of=key_of,
            known=store.answers(training, artefact_of(content)),
        )
        measurements = tuple(_asked(cohort.evaluations, subject, answers))
        record = TrialRecord(
            trial=trial,
            training=training,
            dataset=dataset.name,
            model=cohort.model.name,
            recipe=GIVEN,
            fold=0,
            repeat=0,
            measurements=measurements,
            seconds=time.perf_counter() - started,
            weights=content,
            answers=answers.new,
            provenance=_provenance(study, dataset),
        )
        store.write(record)
    return record


def _with_scales(dataset: Dataset) -> Dataset:
    """Returns the data set with a warning where the model receives scaled numbers, not those of the user's table."""
    scaled = [
        column for column in dataset.features if column.kind == "number" and (column.center, column.scale) != (0, 1)
    ]
    if not scaled:
        return dataset
    first = scaled[0]
    warning = (
        f"the model is given scaled numbers, as ({first.column} - {first.center:g}) / {first.scale:g}, of "
        f"{len(scaled)} columns: if it was trained on numbers in their own units, say center: 0 and scale: 1 of each "
        "under kinds"
    )
    warnings = (*dataset.warnings, warning)
    return replace(dataset, warnings=warnings, stated=(*dataset.stated, warning), part_of=dataset.origin)


def _radii(threat: str) -> tuple[str, list[float]]:
    """Returns the norm of a threat, and its radii; no radii where those of the data set apply."""
    norm, _, radii = threat.partition(":")
    if norm not in NORMS:
        said = f"--threat {threat!r}: {norm!r} is no norm that is attacked; write linf or l2, with radii: linf:0.05,0.1"
        raise SpecError(said, setting="--threat", given=norm, allowed=NORMS)
    if re.fullmatch(r"0,\d+", radii):
        said = (
            f"--threat {threat!r} is a radius with a comma before its decimals, or the radii 0 and "
            f"{float(radii[2:]):g}; write {norm}:{radii.replace(',', '.')}, or {norm}:{float(radii[2:]):g} (0 is "
            "always asked)"
        )
        raise SpecError(said, setting="--threat", given=radii, allowed=(radii.replace(",", "."), radii[2:]))
    try:
        epsilons = [float(as_number(radius)) for radius in radii.split(",")] if radii else []
    except ValueError:
        said = f"--threat {threat!r}: write linf or l2, and if you like radii: linf:0.05,0.1,0.2"
        raise SpecError(said, setting="--threat", given=threat) from None
    if norm == "l2" and not epsilons:
        said = f"--threat {threat!r}: give L2 radii in units of the data, such as l2:0.5,1,2"
        raise SpecError(said, setting="--threat", given=threat)
    if any(not 0 <= radius < float("inf") for radius in epsilons):
        said = f"--threat {threat!r}: every radius must be a number of at least 0"
        raise SpecError(said, setting="--threat", given=threat)
    return norm, epsilons


def _asked(evaluations: tuple[Evaluation, ...], subject: Subject, answers: AnswerLog) -> list[Measurement]:
    """Runs the evaluations whose results are not known yet, and returns all results.

    Workers take over this process's number of threads, and each has reserved a single processor.
    """
    threads = torch.get_num_threads()
    if subject.executor.workers > 1:
        torch.set_num_threads(1)
    try:
        return ask(evaluations, subject, keep_going=True, answers=answers)
    finally:
        torch.set_num_threads(threads)


def _provenance(study: Study, dataset: Dataset) -> dict[str, Any]:
    return {
        "asked": study.model_dump(mode="json"),
        "data": dataset.about,
        "versions": versions(),
        "source": source_digest(),
    }


def _name(study: Study, dataset: Dataset, model: Architecture, tensors: Mapping[str, Tensor]) -> str:
    """Returns the key of the given model on these data, from its weights, its code, the split and the seed."""
    sha = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha.update(tensor.view(torch.uint8).numpy().tobytes() if tensor.dim() else repr(tensor.item()).encode())
    return hash_of(
        {
            "data": dataset.digest,
            "split": study.split.model_dump(mode="json"),
            "seed": study.seed,
            "model": model.model_dump(mode="json"),
            "model_code": model.fingerprint(),
            "weights": sha.hexdigest(),
            "versions": dependencies(),
            "source": digest_of({_ADAPTER_MODULE, *modules_in(model)}),
        }
    )
