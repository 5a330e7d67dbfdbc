"""Paediatric chest X-rays as they were first published (Kermany et al. 2018): folders of full-size JPEG files."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from assay.data.base import Dataset
from assay.data.images.files import Decoder
from assay.data.images.folder import ImageSource
from assay.data.images.listing import listed
from assay.data.intended_use import IntendedUse
from assay.data.locate import absent, find
from assay.errors import DataError
from assay.registry import register

CHILDREN = IntendedUse(
    records="frontal chest X-rays of children of one to five years, Guangzhou Women and Children's Medical Center",
    species="human",
    ages=(1, 5),
    modalities=("CR", "DX"),
    body_parts=("CHEST",),
    views=("AP", "PA"),
    sites=("Guangzhou Women and Children's Medical Center",),
)
"""Stated by Kermany et al. (2018) of these X-rays, of which pneumoniamnist is made too."""
_ADDRESS = "https://data.mendeley.com/datasets/rscbjbr9sj"
_FOLDERS = {"train": "train", "val": "train", "test": "test"}
"""The publisher has no validation part. Copies with one took 16 images out of train; they are put back."""
_PATIENT = r"^((?:NORMAL2-)?IM-\d+|person\d+_[a-z]+|(?:NORMAL|BACTERIA|VIRUS)-\d+)[-_]"
"""Series and number of the child, in the spellings of the releases; one or two numbers of the image follow.
Each series has its own numbers, so the series is part of the name: person81_bacteria of test and person81_virus of
train are two children, as are IM-0117 and NORMAL2-IM-0117. A name that still occurs in both train and test is taken for
one child, and is an error."""


@register("dataset")
class ChestXRay(ImageSource):
    """X-rays of children, grey, with the official split of the publisher; 1 is pneumonia.

    The folder ``chest_xray`` contains ``train/`` and ``test/``, each with ``NORMAL/`` and ``PNEUMONIA/``. The publisher
    says that the children of train and test are different. A few hundred files store grey images in three channels;
    they are converted to one.
    """

    name: Literal["chest_xray"] = "chest_xray"
    size: int = Field(default=224, ge=8)
    """Side of a record in pixels; the whole image is scaled to it."""
    stream: bool = False
    """Decode images on access instead of all at first: at 224 pixels they take 1.1 GiB in memory."""

    def load(self) -> Dataset:
        root = self._root()
        parts = {folder: part for folder, part in _FOLDERS.items() if (root / folder).is_dir()}
        return self.gathered(
            listed(root, parts, dataset=self.name, classes=("NORMAL", "PNEUMONIA")),
            Decoder(height=self.size, width=self.size, channels=1, convert=True),
            stream=self.stream,
            groups=_PATIENT,
            name=self.name,
            intended_use=CHILDREN,
            licence="CC BY 4.0",
            citation="Kermany, Goldbaum, Cai et al. (2018), Identifying Medical Diagnoses and Treatable Diseases by "
            "Image-Based Deep Learning, Cell 172(5):1122-1131; Mendeley Data, doi:10.17632/rscbjbr9sj",
        )

    def _root(self) -> Path:
        root = find(self.name)
        if root is None:
            raise absent(self.name, wanted=f"{self.name}/train", obtain=f"unpack ChestXRay2017.zip from {_ADDRESS}")
        if (root / self.name).is_dir():
            root /= self.name  # archives contain a folder of the same name
        for part in ("train", "test"):
            if not (root / part).is_dir():
                here = ", ".join(sorted(entry.name for entry in root.iterdir())) or "nothing"
                raise DataError(
                    f"{self.name}: {part}/ is missing in {root} (it holds: {here}); the release has train/ and test/, "
                    f"each with NORMAL/ and PNEUMONIA/: unpack ChestXRay2017.zip from {_ADDRESS}"
                )
        return root
