"""Search strategies of a sweep: which point is tried next, given the outcomes of earlier ones."""
