"""Evidence for a checkpoint that Assay did not train."""

import hashlib
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from assay import seeds
from assay.data.base import Dataset
from assay.data.splits import split
from assay.errors import CheckpointError, SpecError
from assay.evaluations.base import Evaluation, Subject
from assay.executors import Executor, LocalExecutor
from assay.models.base import Architecture
from assay.registry import as_number
from assay.results import Measurement, TrialRecord
from assay.study.measure import ask
from assay.study.provenance import source_digest, versions
from assay.study.run import write_study
from assay.study.spec import GIVEN, Study, build_study
from assay.study.store import Store
from assay.study.training import device
from assay.training.checkpoints import load_weights, read_weights, to_bytes


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
) -> Study:
    """The study that asks everything of one given model.

    Args:
        model: ``package.module:factory``.
        data: settings of the ``arrays`` data set.
        immutable: features that nobody can change.
        attacks: names of attacks beyond the usual ones.
        records: how many are attacked and certified, stratified; all by default.
        threat: ``linf``, ``l2``, or with radii: ``linf:0.05,0.1,0.2`` or ``linf:8/255``.

    Raises:
        SpecError: the threat is not of that form, or a setting is impossible.
    """
    norm, epsilons = _radii(threat)
    cohort = {
        "dataset": {"name": "arrays", **data},
        "model": {"name": "imported", "factory": model},
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
    weights: str,
    *,
    environment: Mapping[str, Any],
    executor: Executor | None = None,
) -> TrialRecord:
    """Ask everything of the given model on all records of the study's data set, and store the answers.

    Args:
        executor: its workers share the records, with one thread each; this process alone by default.

    Raises:
        CheckpointError: the weights cannot be read, or the model cannot take the records.
    """
    started = time.perf_counter()
    cohort = study.cohorts["given"]
    model = cohort.model.build_for(dataset.form, seed=study.seed)
    tensors = _loaded(model, weights)
    model = model.to(device()).eval()
    _try(model, dataset)
    subject = Subject(
        model=model,
        dataset=dataset,
        split=split(dataset, study.split, fold=0, repeat=0, seed=study.seed),
        recipe=None,
        log=None,
        seed=seeds.derive(study.seed, "given"),
        device=device(),
        executor=executor or LocalExecutor(),
    )
    trial = _name(study, dataset, cohort.model, tensors)
    with store.locked():
        store.keep_only([trial])
        write_study(study, store, {trial: GIVEN}, environment)
        measurements = tuple(_asked(cohort.evaluations, subject))
        record = TrialRecord(
            trial=trial,
            dataset=dataset.name,
            model=cohort.model.name,
            recipe=GIVEN,
            fold=0,
            repeat=0,
            measurements=measurements,
            seconds=time.perf_counter() - started,
            weights=to_bytes(tensors, {}),
            provenance=_provenance(study, dataset),
        )
        store.write(record)
    return record


def _radii(threat: str) -> tuple[str, list[float]]:
    """The norm of a threat, and its radii; none where the data set says them."""
    norm, _, radii = threat.partition(":")
    try:
        epsilons = [float(as_number(radius)) for radius in radii.split(",")] if radii else []
    except ValueError:
        raise SpecError(f"--threat {threat!r}: write linf or l2, and if you like radii: linf:0.05,0.1,0.2") from None
    if norm == "l2" and not epsilons:
        raise SpecError(f"--threat {threat!r}: give L2 radii in units of the data, such as l2:0.5,1,2")
    if any(not 0 <= radius < float("inf") for radius in epsilons):
        raise SpecError(f"--threat {threat!r}: every radius must be a number of at least 0")
    return norm, epsilons


def _loaded(model: nn.Module, weights: str) -> dict[str, Tensor]:
    """The weights of a file, which the model has now."""
    tensors = read_weights(weights)
    load_weights(model, tensors, weights)
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise CheckpointError(f"weights {weights!r} hold NaN or infinity in {', '.join(broken[:6])}")
    return tensors


def _asked(evaluations: tuple[Evaluation, ...], subject: Subject) -> list[Measurement]:
    """All answers. Workers take over this process's number of threads, and each has reserved a single processor."""
    threads = torch.get_num_threads()
    if subject.executor.workers > 1:
        torch.set_num_threads(1)
    try:
        return ask(evaluations, subject)
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
    """Hash of all that the answers depend on."""
    asked = study.cohorts["given"].evaluations
    said = [dataset.digest, model.model_dump_json(), model.fingerprint(), study.seed, versions(), source_digest()]
    said += [evaluation.model_dump_json() for evaluation in asked]
    sha = hashlib.sha256(repr(said).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        sha.update(tensor.view(torch.uint8).numpy().tobytes() if tensor.dim() else repr(tensor.item()).encode())
    return sha.hexdigest()[:20]


def _try(model: nn.Module, dataset: Dataset) -> None:
    """Let the model answer two records before anything long begins."""
    x = torch.from_numpy(dataset.x[:2]).to(device())
    try:
        with torch.no_grad():
            logits = model(x)
    except Exception as error:  # whatever the user's network raises
        raise CheckpointError(f"the model cannot take records of shape {dataset.shape}: {error}") from None
    if not isinstance(logits, Tensor):
        raise CheckpointError(f"the model returned {type(logits).__name__}; it must return one tensor of logits")
    if logits.dim() != 2 or len(logits) != len(x):
        raise CheckpointError(
            f"the model returned shape {tuple(logits.shape)} for {len(x)} records; logits must be ({len(x)}, classes)"
        )
    if logits.shape[1] < dataset.classes:
        raise CheckpointError(f"the model has {logits.shape[1]} classes, the data {dataset.classes}")
