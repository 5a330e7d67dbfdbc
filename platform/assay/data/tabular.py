"""Tables of clinical features."""

from typing import ClassVar, Literal

import numpy as np

from assay.data.base import Dataset, Source
from assay.data.features import Feature
from assay.data.intended_use import IntendedUse
from assay.registry import register

# Mean, standard deviation and maximum of each feature over the 569 published records, to six digits. They are
# public figures of a public data set, fixed here so that no recipe, private ones included, learns its scaling.
# Source: W. Wolberg, W. Street, O. Mangasarian, Breast Cancer Wisconsin (Diagnostic), UCI, 1995, as shipped by
# scikit-learn; the test of this module recomputes them.
WDBC_MEAN = (
    14.1273, 19.2896, 91.969, 654.889, 0.0963603, 0.104341, 0.0887993, 0.0489191, 0.181162, 0.0627976,
    0.405172, 1.21685, 2.86606, 40.3371, 0.00704098, 0.0254781, 0.0318937, 0.0117961, 0.0205423, 0.0037949,
    16.2692, 25.6772, 107.261, 880.583, 0.132369, 0.254265, 0.272188, 0.114606, 0.290076, 0.0839458,
)  # fmt: skip
WDBC_DEVIATION = (
    3.52095, 4.29725, 24.2776, 351.605, 0.0140518, 0.0527663, 0.0796497, 0.0387687, 0.0273902, 0.00705416,
    0.277069, 0.551163, 2.02008, 45.451, 0.00299988, 0.0178924, 0.0301595, 0.00616486, 0.0082591, 0.00264374,
    4.82899, 6.14085, 33.573, 568.856, 0.0228124, 0.157198, 0.208441, 0.0656746, 0.0618131, 0.0180454,
)  # fmt: skip
WDBC_MAXIMUM = (
    28.11, 39.28, 188.5, 2501.0, 0.1634, 0.3454, 0.4268, 0.2012, 0.304, 0.09744,
    2.873, 4.885, 21.98, 542.2, 0.03113, 0.1354, 0.396, 0.05279, 0.07895, 0.02984,
    36.04, 49.54, 251.2, 4254.0, 0.2226, 1.058, 1.252, 0.291, 0.6638, 0.2075,
)  # fmt: skip


@register("dataset")
class WisconsinBreastCancer(Source):
    """569 fine-needle aspirates, 30 features of cell nuclei each; 1 is malignant. Shipped with scikit-learn."""

    name: Literal["wdbc"] = "wdbc"
    records: ClassVar[int | None] = 569

    def load(self) -> Dataset:
        from sklearn.datasets import load_breast_cancer

        raw = load_breast_cancer()
        mean, deviation = np.array(WDBC_MEAN), np.array(WDBC_DEVIATION)
        names = tuple(str(feature) for feature in raw.feature_names)
        return Dataset(
            name=self.name,
            x=((raw.data - mean) / deviation).astype(np.float32),
            y=(raw.target == 0).astype(np.int64),
            class_names=("benign", "malignant"),
            feature_names=names,
            features=tuple(
                Feature(
                    name=name,
                    column=name,
                    kind="number",
                    center=center,
                    scale=scale,
                    source="stated",
                    valid=(0.0, np.inf),
                )
                for name, center, scale in zip(names, WDBC_MEAN, WDBC_DEVIATION, strict=True)
            ),
            low=(-mean / deviation).astype(np.float32),
            # One part in a million above the published maximum: float32 rounding must not push a record outside.
            high=((np.array(WDBC_MAXIMUM) - mean) / deviation * (1 + 1e-6)).astype(np.float32),
            units="standard deviations of the feature",
            epsilons=(0.0, 0.05, 0.1, 0.2, 0.3, 0.5),
            licence="CC BY 4.0",
            citation="Wolberg, Street & Mangasarian (1995), Breast Cancer Wisconsin (Diagnostic), UCI Machine Learning "
            "Repository",
            intended_use=IntendedUse(
                records="fine-needle aspirates of breast masses, whose cell nuclei were outlined on digital images, "
                "University of Wisconsin Hospitals",
                sites=("University of Wisconsin Hospitals",),
            ),
            preprocessing="each feature minus its published mean, divided by its published standard deviation; valid "
            "inputs lie between zero and the published maximum",
        )
