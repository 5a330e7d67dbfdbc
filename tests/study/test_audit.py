"""An audit trains where the cohort is computed."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from assay.devices import device
from assay.evaluations.audit import Audit
from assay.study.audit import audit_trial, compare_noise
from assay.study.plan import load_datasets, plan
from assay.study.spec import Study


@pytest.mark.parametrize(("where", "used"), [("gpu", "cuda"), ("cpu", "cpu")])
def test_an_audit_of_a_cohort_for_the_cpu_uses_no_gpu(
    where: Any, used: str, tiny: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny({"private": {"privacy": {"epsilon": 8}}})
    datasets = load_datasets(study)
    trial, dataset = replace(plan(study, datasets)[0], device=where), datasets["made"]
    seen: list[str] = []

    def fails(*_: Any) -> None:
        seen.append(device().type)
        raise RuntimeError("enough")

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("assay.study.audit.repeatable", lambda **_: nullcontext())
    monkeypatch.setattr("assay.study.audit._subject", fails)
    for asked in (lambda: audit_trial(trial, dataset, Audit()), lambda: compare_noise(trial, trial, dataset)):
        with pytest.raises(RuntimeError, match="enough"):
            asked()
    assert seen == [used, used]
