"""Tables of a ledger for a terminal."""

from typing import TYPE_CHECKING

from jobs.console import console, console_table

if TYPE_CHECKING:
    from assay.ledger.account import Account, ChargeOnRecord
    from assay.ledger.experiments import Trace
    from assay.ledger.protocol import LedgerProtocol
    from assay.ledger.trainings import TrainingRow


def print_ledger(ledger: "LedgerProtocol", beside: list["LedgerProtocol"], *, today: str) -> None:
    """Prints one ledger as text and tables.

    Args:
        ledger: the ledger.
        beside: all ledgers of its folder.
        today: YYYY-MM-DD.
    """
    console.print(
        f"{ledger.name}: {ledger.records} records, {ledger.path}", style="bold", highlight=False, soft_wrap=True
    )
    account = ledger.account()
    print_account(account)
    if account.charges:
        console.print(
            console_table(
                ("charge", "", "ε alone", "since", "where to"),
                [_charge_row(charge, account.delta) for charge in account.charges],
            )
        )
    _print_own_trainings(ledger)
    _print_budgets(ledger)
    _print_experiments(ledger)
    _print_purposes(ledger)
    _print_deletions(ledger)
    _print_warnings(ledger, account, beside, today)


def _print_own_trainings(ledger: "LedgerProtocol") -> None:
    """Prints what private trainings of evaluations spent, such as the machine of ``glass_box``; none is released."""
    from assay.privacy.composition import UNBOUNDED, pld_epsilon_of

    rows = []
    for row in _own_trainings(ledger):
        if row.charge != UNBOUNDED:
            delta = next(one.delta for mechanisms in row.charge.values() for one in mechanisms)
            epsilon = pld_epsilon_of([row.charge], delta=delta)
            rows.append((_plain(row.label), row.noise, f"{epsilon:.4g}", f"{delta:g}"))
    if rows:
        console.print(console_table(("trained by an evaluation, never released", "noise", "ε alone", "at δ ="), rows))


def _own_trainings(ledger: "LedgerProtocol") -> list["TrainingRow"]:
    """Returns the trainings of evaluations: their labels are that of a trial, the evaluation and what it trained."""
    trials = ledger.experiments()
    labels = {(trial.results, trial.label) for trial in trials}
    return [
        row
        for results in sorted({trial.results for trial in trials})
        for row in ledger.trainings(results)
        if row.label.count(" · ") > 1 and (results, row.label.rsplit(" · ", 2)[0]) in labels
    ]


def _print_budgets(ledger: "LedgerProtocol") -> None:
    """Prints every budget that was ever in force, and why it replaced the one before."""
    rows = [
        (f"{budget.epsilon:g}", f"{budget.delta:g}", budget.at, _plain(budget.reason)) for budget in ledger.budgets()
    ]
    if rows:
        console.print(console_table(("budgets: ε", "at δ =", "set", "why it changed"), rows))


def _print_deletions(ledger: "LedgerProtocol") -> None:
    """Prints what was deleted, and by which request."""
    rows = [(at, erased, _plain(asked)) for at, asked, erased in ledger.erasures()]
    if rows:
        console.print(console_table(("deletions", "deleted", "because of"), rows))


def _print_experiments(ledger: "LedgerProtocol") -> None:
    trials = ledger.experiments()
    for place in sorted({trial.results for trial in trials}):
        console.print(f"counts what was trained with results in {place}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"what is trained on the same patients elsewhere counts only with --ledger {ledger.path.parent} or ASSAY_LEDGER",
        style="yellow",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    ended = [trial for trial in trials if not trial.error]
    console.print(
        f"{len(trials)} experiments: {sum(bool(trial.noise) for trial in trials)} private, {len(ended)} finished, "
        f"{len(trials) - len(ended)} failed or cut short, {sum(bool(trial.erased) for trial in trials)} erased",
        highlight=False,
    )


def _print_purposes(ledger: "LedgerProtocol") -> None:
    """Prints why records are processed; the purpose is the last column, since it may be long."""
    rows = [
        (
            processing.until or "not stated",
            str(experiments),
            str(releases),
            _plain(processing.legal_basis or "not stated"),
            _plain(processing.purpose or "not stated"),
        )
        for processing, experiments, releases in ledger.processings()
    ]
    if rows:
        console.print(console_table(("keep until", "experiments", "releases", "legal basis", "processed for"), rows))


def _print_warnings(ledger: "LedgerProtocol", account: "Account", beside: list["LedgerProtocol"], today: str) -> None:
    if expired := ledger.expired(today):
        console.print(
            f"{len(expired)} experiments have expired; delete them with `jobs.ledger erase --expired`", style="red"
        )
    if ledger.about("most_of_a_patient") != "1" and account.unit == "record":
        console.print(
            f"ε protects one record, as privacy.unit: record asks; the patient with {ledger.about('most_of_a_patient')} records is protected that "
            "many times less at best",
            style="yellow",
        )
    same = [other.path.name for other in beside if other.name == ledger.name and other.path != ledger.path]
    if same:
        console.print(
            f"{', '.join(same)}: other versions of data of this name, whose releases do not count here. Once one has "
            "released something, the others may not, unless their patients' IDs show that they are other people",
            style="yellow",
            highlight=False,
        )


def print_account(account: "Account") -> None:
    """Prints what was spent, by each accountant, and what is left.

    Args:
        account: of the ledger.
    """
    released = sum(bool(charge.released) for charge in account.charges)
    trained, reserved = (sum(charge.state == state for charge in account.charges) for state in ("trained", "reserved"))
    rows = [
        (f"{released} released, by {account.accountant}", f"{account.released:.4g}"),
        (f"and {trained} trained, whatever became of them, and {reserved} reserved", f"{account.held:.4g}"),
        ("released, if all had been fixed beforehand: RDP", f"{account.rdp:.4g}"),
        ("the same: PLD", f"{account.pld:.4g}"),
    ]
    if account.budget is not None:
        rows += [
            (f"all that ever leaves, {account.bounded_by}", f"{account.bound:.4g}"),
            ("budget", f"{account.budget.epsilon:.4g}"),
            ("budget less what is held", f"{account.left:.4g}"),
        ]
    console.print(console_table(("spent", f"ε for one {account.unit} at δ = {account.delta:g}"), rows))
    if account.budget is None:
        console.print(
            "no budget is set: nothing private may be released, and reservations hold nothing", style="yellow"
        )


def _charge_row(charge: "ChargeOnRecord", delta: float) -> tuple[str, ...]:
    from assay.privacy.composition import rdp_epsilon_of

    plan = f", plan {charge.plan}" if charge.plan else ""
    return (
        _plain(charge.label),
        f"{charge.state}{plan}",
        f"{rdp_epsilon_of([charge.charge], delta=delta):.4g}",
        charge.released,
        _plain("\n".join(charge.departures)),
    )


def print_traces(ledger: "LedgerProtocol", traces: list["Trace"], asked: str, *, deleted: bool) -> None:
    """Prints which trials used some records, and what to do about each.

    Args:
        ledger: the ledger.
        traces: the trials.
        asked: description of the records.
        deleted: whether models and results have been deleted.
    """
    console.print(f"{asked} of {ledger.name} went into {len(traces)} experiments", highlight=False)
    rows = [
        (
            _plain(trace.experiment.label),
            trace.experiment.training,
            trace.role,
            _plain(trace.experiment.results),
            _what_to_do(trace, deleted=deleted),
        )
        for trace in traces
    ]
    console.print(console_table(("experiment", "trial", "the record was", "kept in", "what to do"), rows))
    released = sum(bool(trace.departures) for trace in traces)
    if released:
        console.print(
            f"{released} were released: no weights can be made to forget, and nothing that left can be called back from "
            "here; withdraw what is served, and tell whoever received the rest",
            style="red",
        )
    console.print(
        "Then take the record out of the data and run the studies again. The data without it have a new ledger, which "
        "knows nothing of what was spent here, so it releases nothing once this one has: give the data another name, and "
        "a budget less what was spent here. Copies elsewhere, in Weights & Biases or "
        "back-ups, are not reached from here.",
        style="dim",
    )


def _what_to_do(trace: "Trace", *, deleted: bool) -> str:
    if trace.departures:
        return _plain("recall: " + "; ".join(trace.departures)) + (
            "; model and results here are deleted" if deleted else ""
        )
    if deleted or trace.experiment.erased:
        return "deleted"
    return "delete model and results (--delete)"


def _plain(text: str) -> str:
    """Escapes text so that rich sees no markup in it."""
    from rich.markup import escape

    return escape(text)
