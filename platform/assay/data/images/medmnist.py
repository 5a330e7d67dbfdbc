"""MedMNIST v2: twelve sets of small medical images (Yang et al. 2023), each under its published name."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from assay.data.base import Dataset, Source
from assay.data.images.base import image_dataset, intensities, read_named_arrays
from assay.data.images.files import Decoder
from assay.data.images.medmnist_facts import FACTS, FINDINGS, ChestFinding, Facts
from assay.data.images.medmnist_uses import USES
from assay.data.locate import download, find, md5
from assay.errors import DataError
from assay.registry import register

_ZENODO = "https://zenodo.org/records/10519652/files"
_PARTS = {"train": "train", "val": "validation", "test": "test"}
_PAPER = (
    "Yang, Shi, Wei, Liu, Zhao, Ke, Pfister & Ni (2023), MedMNIST v2: A Large-Scale Lightweight Benchmark for 2D and "
    "3D Biomedical Image Classification, Scientific Data 10:41"
)


class MedMNIST(Source):
    """Base of the sets of 28 × 28 pixels, with their official splits.

    The file is ``<name>/<name>.npz`` or ``<name>.npz`` in the data folder; otherwise it is downloaded and verified by
    its published MD5. A file with another MD5 is accepted if its arrays have the published form; a note says so.
    """

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        facts = FACTS[cls.model_fields["name"].default]
        cls.records, cls.official_train = sum(facts.counts), facts.counts[0]

    def load(self) -> Dataset:
        facts = FACTS[self.name]
        path = find(self.name, f"{self.name}.npz") or find(f"{self.name}.npz") or self._fetch(facts)
        arrays = read_named_arrays(
            path, [f"{part}_{what}" for part in _PARTS for what in ("images", "labels")], dataset=self.name
        )
        counts = tuple(self._checked(facts, path, part, arrays) for part in _PARTS)
        labels = np.concatenate([arrays[f"{part}_labels"] for part in _PARTS]).astype(np.int64)
        y, classes = self.task(labels)
        published = md5(path) == facts.md5
        return image_dataset(
            name=self.name,
            x=intensities(np.concatenate([arrays[f"{part}_images"] for part in _PARTS])),
            y=y,
            class_names=classes,
            official=np.repeat(list(_PARTS.values()), counts),
            decoder=_decoder(facts),
            intended_use=USES[self.name],
            licence=facts.licence,
            citation=f"{_PAPER}; images of {facts.source}",
            preprocessing="published at 28 × 28 pixels; each divided by 255"
            + ("" if published else "; read from a file whose MD5 is not the published one"),
            warnings=(_dependence(facts), *_shortage(facts, counts)),
            stated=(_dependence(facts), *_shortage(facts, counts)),
        )

    def task(self, labels: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """Converts the published labels.

        Args:
            labels: (n, 1), or (n, findings), integers.

        Returns:
            Labels (n,) and names of the classes; of two classes, 1 is the one to detect.
        """
        return labels[:, 0], FACTS[self.name].classes

    def _fetch(self, facts: Facts) -> Path:
        file = f"{self.name}.npz"
        return download(
            f"{_ZENODO}/{file}", checksum=f"md5:{facts.md5}", folder=self.name, name=file, dataset=self.name
        )

    def _checked(self, facts: Facts, path: Path, part: str, held: dict[str, np.ndarray]) -> int:
        """Returns the number of images of a part, after its arrays are checked against the published form."""
        images, labels = held[f"{part}_images"], held[f"{part}_labels"]
        form = (28, 28) if facts.channels == 1 else (28, 28, facts.channels)
        if images.shape[1:] != form or images.dtype != np.uint8 or len(images) == 0:
            raise DataError(
                f"{self.name}: {part}_images of {path} is {images.dtype} of shape {images.shape}; "
                f"it must be uint8 of shape (n, {', '.join(str(side) for side in form)})"
            )
        greatest = len(facts.classes) - 1 if facts.columns == 1 else 1
        if labels.shape != (len(images), facts.columns) or labels.dtype.kind not in "iu":
            raise DataError(
                f"{self.name}: {part}_labels of {path} is {labels.dtype} of shape {labels.shape}; "
                f"it must be integers of shape ({len(images)}, {facts.columns})"
            )
        if labels.min() < 0 or labels.max() > greatest:
            raise DataError(
                f"{self.name}: {part}_labels of {path} run from {labels.min()} to {labels.max()}; "
                f"published are 0 to {greatest}"
            )
        return len(images)


def _decoder(facts: Facts) -> Decoder:
    """Returns how other images become records: to 28 × 28 pixels, cut to a square where the publisher did so."""
    shorter = 28 if facts.cut_to_square else None
    return Decoder(
        height=28, width=28, channels=facts.channels, convert=True, shorter=shorter, scaled_by_publisher=True
    )


def _dependence(facts: Facts) -> str:
    warning = (
        f"images are not marked by patient ({facts.shared}): intervals take them as independent, so are too narrow"
    )
    return warning + (", and the published split may have a patient in training and test" if facts.by_image else "")


def _shortage(facts: Facts, counts: tuple[int, ...]) -> tuple[str, ...]:
    if counts == facts.counts:
        return ()
    given, published = (" / ".join(str(count) for count in of) for of in (counts, facts.counts))
    return (f"not the whole published set: {given} images for training / validation / test instead of {published}",)


@register("dataset")
class PathMNIST(MedMNIST):
    """Tissue of the colon under the microscope, nine classes; the test images come from another hospital."""

    name: Literal["pathmnist"] = "pathmnist"


@register("dataset")
class ChestMNIST(MedMNIST):
    """Chest X-rays of adults. Fourteen findings are labelled, each yes or no: ``finding`` is the one to detect."""

    name: Literal["chestmnist"] = "chestmnist"
    finding: ChestFinding = "effusion"

    def task(self, labels: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        return labels[:, FINDINGS.index(self.finding)], (f"no {self.finding}", self.finding)


@register("dataset")
class DermaMNIST(MedMNIST):
    """Pigmented lesions of the skin, seven diagnoses. Not for commercial use."""

    name: Literal["dermamnist"] = "dermamnist"


@register("dataset")
class OCTMNIST(MedMNIST):
    """Optical coherence tomography of the retina, four diagnoses."""

    name: Literal["octmnist"] = "octmnist"


@register("dataset")
class PneumoniaMNIST(MedMNIST):
    """Chest X-rays of children; 1 is pneumonia."""

    name: Literal["pneumoniamnist"] = "pneumoniamnist"


@register("dataset")
class RetinaMNIST(MedMNIST):
    """Photographs of the fundus, five grades of diabetic retinopathy, taken as classes without an order."""

    name: Literal["retinamnist"] = "retinamnist"


@register("dataset")
class BreastMNIST(MedMNIST):
    """Ultrasound of the breast. In the published file malignant is 0; here malignant is 1, the class to detect."""

    name: Literal["breastmnist"] = "breastmnist"

    def task(self, labels: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        return 1 - labels[:, 0], FACTS[self.name].classes[::-1]


@register("dataset")
class BloodMNIST(MedMNIST):
    """Single cells of normal blood, eight classes."""

    name: Literal["bloodmnist"] = "bloodmnist"


@register("dataset")
class TissueMNIST(MedMNIST):
    """Cells of the kidney's cortex, eight classes."""

    name: Literal["tissuemnist"] = "tissuemnist"


@register("dataset")
class OrganAMNIST(MedMNIST):
    """Eleven organs in axial slices of computed tomography."""

    name: Literal["organamnist"] = "organamnist"


@register("dataset")
class OrganCMNIST(MedMNIST):
    """Eleven organs in coronal slices of computed tomography."""

    name: Literal["organcmnist"] = "organcmnist"


@register("dataset")
class OrganSMNIST(MedMNIST):
    """Eleven organs in sagittal slices of computed tomography."""

    name: Literal["organsmnist"] = "organsmnist"
