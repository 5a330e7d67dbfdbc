"""When a test of a difference is void, for the same records have chosen what is compared; without PyTorch."""

_BY_LOOKING = "the best of them is best partly by chance, and a p-value of two that were picked by looking is void"


def why_no_test(tested: str, *, sweep: bool, points: int = 2) -> str:
    """Returns why trials may not be compared by a test on the records on which they were measured.

    Records that chose, or by which a reader could choose, give no honest p-value of the difference of two that were
    chosen. Validation records are there to choose by; test records choose where a sweep is measured on them.

    Args:
        tested: the records, ``test`` or ``validation``.
        sweep: whether the trials are points of a sweep that was measured on these records, and not the chosen ones
            that are judged in ``judged/``.
        points: that were compared on these records.

    Returns:
        The reason, without a full stop at its end; empty if a test is valid.
    """
    if points < 2:
        return ""
    if tested == "validation":
        return (
            f"these trials were measured on validation records, by which they could be chosen: {_BY_LOOKING}. The test "
            "records are for that: judge the chosen trials on them, once"
        )
    if sweep:
        return (
            f"the test records have compared the points of this sweep, and whoever picks points can see that: "
            f"{_BY_LOOKING}. Choose on validation records, and judge the chosen points once on test records"
        )
    return ""
