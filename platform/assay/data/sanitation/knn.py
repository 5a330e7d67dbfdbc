"""Sanitation by the labels of a record's nearest neighbours."""

from typing import ClassVar, Literal

from pydantic import Field

from assay.data.treatment import TrainingRecords, Treatment, Workbench
from assay.errors import DataError
from assay.registry import register


@register("treatment")
class KNNSanitation(Treatment):
    """Removes every record whose label most of its nearest neighbours do not share (Wilson 1972's edited neighbours).

    Distances are Euclidean, in the units of the data. Clean records in the overlap of two classes are removed too.
    """

    defends: ClassVar[bool] = True
    name: Literal["knn_sanitation"] = "knn_sanitation"
    neighbours: int = Field(default=10, ge=1)
    agreement: float = Field(default=0.5, gt=0, le=1)
    """Least fraction of the neighbours that must have a record's label for it to stay."""

    @property
    def per_record(self) -> bool:
        return False

    def apply(self, records: TrainingRecords, bench: Workbench) -> TrainingRecords:
        from sklearn.neighbors import NearestNeighbors

        if records.x.dtype.kind != "f":
            raise DataError(
                f"knn_sanitation: records are of type {records.x.dtype}, not floating point: positions of words "
                "have no distance; give the texts embedding=encoder, whose records are vectors, or leave "
                "knn_sanitation out",
                setting="data",
                given=self.name,
                allowed="embedding=encoder",
            )
        if len(records.y) <= self.neighbours:
            raise DataError(
                f"knn_sanitation: {len(records.y)} records have no {self.neighbours} neighbours; lower neighbours",
                setting="knn_sanitation.neighbours",
                given=self.neighbours,
                allowed=len(records.y) - 1,
            )
        flat = records.x.reshape(len(records.y), -1)
        # Without an argument sklearn excludes each record from its own neighbours.
        near = NearestNeighbors(n_neighbors=self.neighbours).fit(flat).kneighbors(return_distance=False)
        return records.only((records.y[near] == records.y[:, None]).mean(1) >= self.agreement)
