"""One check: the same computation on a device and on the CPU, compared, with the times of both."""

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from assay.devices import repeatable
from tests.device.compare import farthest

CPU = torch.device("cpu")
Status = Literal["agrees", "differs", "failed", "skipped"]
GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a computation gave, and how much of it there was."""

    values: Mapping[str, Tensor]
    """Results that must agree."""
    counts: Mapping[str, Tensor] = field(default_factory=dict)
    """Numbers of records, such as those that an attack fooled; they may differ by ``Check.records``."""
    steps: int
    """Steps, or calls, that were timed together."""
    passed: int
    """Records that went through them."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A computation of the library, and how far its results may lie apart on two devices."""

    name: str
    """Part of the library, what is computed and for which network, such as ``training · private · cnn``."""
    run: Callable[[torch.device, torch.dtype], Work]
    dtype: torch.dtype
    within: float
    """Greatest difference of a result, as a share of the greatest entry of its tensor."""
    records: int = 0
    """By how many records a count may differ: a record at the edge may fall to either side by rounding."""
    quick: bool = False
    """Whether ``--quick`` runs it."""
    seconds: float = 5.0
    """Budget on the device, the first run included. A check that takes longer is reported, and does not fail."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Outcome of one check. Times are seconds a step."""

    name: str
    dtype: str
    status: Status
    why: str = ""
    difference: float | None = None
    """Greatest difference, as a share of the greatest entry of its tensor."""
    within: float
    device_step: float | None = None
    cpu_step: float | None = None
    records_a_second: float | None = None
    """On the device."""
    peak_gib: float | None = None
    """Greatest memory of tensors on a CUDA device."""
    over_budget: bool = False

    @property
    def line(self) -> str:
        """The verdict as one line of a terminal."""
        if self.status in ("skipped", "failed"):
            return f"{self.status:8} {self.name} ({self.dtype}): {self.why}"
        assert self.device_step is not None and self.cpu_step is not None and self.records_a_second is not None
        memory = "" if self.peak_gib is None else f", {self.peak_gib:.2f} GiB"
        return (
            f"{self.status:8} {self.name} ({self.dtype}): apart {self.difference:.1e} of {self.within:.0e}; "
            f"{1e3 * self.device_step:.1f} ms a step, CPU {1e3 * self.cpu_step:.1f} ms; "
            f"{self.records_a_second:,.0f} records/s{memory}" + (f"; {self.why}" if self.why else "")
        )

    @property
    def plain(self) -> dict[str, object]:
        """The fields as plain values."""
        return asdict(self)


def perform(check: Check, device: torch.device) -> Verdict:
    """Runs a check on a device, twice, and on the CPU, and compares.

    The first run on the device is not timed: libraries are loaded and memory is claimed in it. The second one must give
    the same bits, for Assay says that a device repeats itself.

    Args:
        check: to run.
        device: compared with the CPU.

    Returns:
        The verdict; an error of the library is one, too.
    """
    about: dict[str, Any] = {
        "name": check.name,
        "dtype": str(check.dtype).removeprefix("torch."),
        "within": check.within,
    }
    if (why := unsupported(device, check.dtype)) is not None:
        return Verdict(**about, status="skipped", why=why)
    try:
        with repeatable(tf32=False):
            began = time.perf_counter()
            first, _, _ = _timed(check, device)
            ours, seconds, peak = _timed(check, device)
            spent = time.perf_counter() - began
            theirs, cpu_seconds, _ = _timed(check, CPU)
    except Exception as error:
        told = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{told.filename.split('/assay/')[-1]}:{told.lineno}"
        return Verdict(**about, status="failed", why=f"{type(error).__name__}: {error} ({where})".replace("\n", " "))
    name, difference = farthest(ours.values, theirs.values)
    wrong = [f"{name} differs"] if not difference <= check.within else []
    wrong += _counted_apart(ours, theirs, check.records)
    if farthest(first.values, ours.values)[1] > 0:
        wrong.append("a second run on the device gives other bits")
    over = spent > check.seconds and device != CPU
    return Verdict(
        **about,
        status="differs" if wrong else "agrees",
        why="; ".join(wrong + [f"took {spent:.0f} s, {check.seconds:g} are planned"] * over),
        difference=difference,
        device_step=seconds / ours.steps,
        cpu_step=cpu_seconds / theirs.steps,
        records_a_second=ours.passed / seconds,
        peak_gib=peak,
        over_budget=over,
    )


def unsupported(device: torch.device, dtype: torch.dtype) -> str | None:
    """Returns why a device cannot compute in a type; None if it can.

    Args:
        device: to compute on.
        dtype: of weights and records.

    Returns:
        The reason.
    """
    if device.type == "mps" and dtype == torch.float64:
        return "mps has no float64"
    if device.type == "cuda" and dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported():
        return "this GPU has no bfloat16"
    return None


def _counted_apart(ours: Work, theirs: Work, records: int) -> list[str]:
    wrong = []
    for name, expected in theirs.counts.items():
        difference = int((ours.counts[name].cpu() - expected.cpu()).abs().max())
        if difference > records:
            wrong.append(f"{name}: {difference} records apart, {records} allowed")
    return wrong


def _timed(check: Check, device: torch.device) -> tuple[Work, float, float | None]:
    """Returns what a check computed, its seconds, and on a CUDA device the GiB of its tensors."""
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    _wait(device)
    began = time.perf_counter()
    work = check.run(device, check.dtype)
    _wait(device)
    seconds = time.perf_counter() - began
    return work, seconds, torch.cuda.max_memory_allocated(device) / GIB if cuda else None


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
