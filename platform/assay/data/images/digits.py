"""Handwritten digits, a small data set for a laptop."""

from typing import ClassVar, Literal

import numpy as np

from assay.data.base import Dataset, Source
from assay.data.images.base import PIXEL
from assay.data.images.files import Decoder
from assay.data.intended_use import IntendedUse
from assay.registry import register


@register("dataset")
class Digits(Source):
    """1,797 handwritten digits of 8 × 8 pixels, ten classes. Shipped with scikit-learn."""

    name: Literal["digits"] = "digits"
    records: ClassVar[int | None] = 1797

    def load(self) -> Dataset:
        from sklearn.datasets import load_digits

        raw = load_digits()
        return Dataset(
            name=self.name,
            x=(raw.images / 16).astype(np.float32)[:, None],
            y=raw.target.astype(np.int64),
            class_names=tuple(str(digit) for digit in range(10)),
            feature_names=tuple(f"row {row}, column {column}" for row in range(8) for column in range(8)),
            low=np.zeros((1, 1, 1), np.float32),
            high=np.ones((1, 1, 1), np.float32),
            units=PIXEL,
            epsilons=(0.0, 0.02, 0.05, 0.1, 0.2),
            licence="CC BY 4.0",
            citation="Alpaydin & Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning "
            "Repository",
            preprocessing="each pixel divided by 16, its published maximum",
            modality="image",
            decoder=Decoder(height=8, width=8, channels=1, convert=True, scaled_by_publisher=True),
            intended_use=IntendedUse(records="single handwritten digits, light on dark"),
        )
