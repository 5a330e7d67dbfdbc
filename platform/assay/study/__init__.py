"""A study: what is asked (``spec``), one unit of work (``trial``), where it lies (``store``), the whole (``run``),
and what of it may leave (``releases``)."""
