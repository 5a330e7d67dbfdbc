"""Opens the trial of a version, with the figures that its callers may see."""

from assay.errors import SpecError
from assay.release.candidates import for_others, require_same_weights
from assay.store.folder import Store
from assay.study.finished import Finished, open_finished
from serve.repository.entries import Source


def open_source(source: Source, *, public: bool) -> Finished:
    """Opens the trial of a version.

    Args:
        source: the trial. Where it names an artefact, only these weights: the store may hold others when a replica
            restarts after a failure.
        public: whether others call it. A model whose privacy claim does not hold is then refused, and figures of
            training records are left out.

    Returns:
        The trained model with its data and figures.

    Raises:
        SpecError: there is no such trial, or it may not be served to others.
        CheckpointError: its weights are gone, or are not those that were chosen.
    """
    store = Store(source.results)
    finished = open_finished(
        store,
        recipe=source.recipe,
        cohort=source.cohort,
        fold=source.fold,
        repeat=source.repeat,
        client=source.client,
    )
    if source.artefact:
        require_same_weights(finished.trial, chosen=source.artefact, found=finished.artefact)
    if not public:
        return finished
    if finished.objections:
        raise SpecError(
            f"public=true: {source.recipe!r} may not leave this machine: {'; '.join(finished.objections)}; "
            "serve it with public=false",
            setting="public",
            given=True,
            allowed=finished.objections,
        )
    return for_others(store, finished) if finished.private else finished
