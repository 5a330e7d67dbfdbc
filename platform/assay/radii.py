"""Radii of threats as text; without PyTorch, which a page of results need not load."""


def radius_text(epsilon: float) -> str:
    """Formats a radius: as a multiple of 1/255 where it is one, else as a plain number.

    Args:
        epsilon: radius, in the units of the data.

    Returns:
        Text such as ``8/255`` or ``0.3``.
    """
    levels = 255 * epsilon
    if 0 < levels < 64 and abs(2 * levels - round(2 * levels)) < 1e-6 and float(f"{epsilon:.3g}") != epsilon:
        return f"{round(2 * levels) / 2:g}/255"
    return f"{epsilon:g}"
