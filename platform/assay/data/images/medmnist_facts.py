"""Published facts about the twelve 2-D sets of MedMNIST v2, from package 3.0.2 and Zenodo record 10519652."""

from dataclasses import dataclass
from typing import Literal, get_args

_ORGANS = (
    "bladder",
    "left femur",
    "right femur",
    "heart",
    "left kidney",
    "right kidney",
    "liver",
    "left lung",
    "right lung",
    "pancreas",
    "spleen",
)
_SCANS = "several organs of one CT scan"
ChestFinding = Literal[
    "atelectasis",
    "cardiomegaly",
    "effusion",
    "infiltration",
    "mass",
    "nodule",
    "pneumonia",
    "pneumothorax",
    "consolidation",
    "edema",
    "emphysema",
    "fibrosis",
    "pleural",
    "hernia",
]
"""Findings of chestmnist, in the order of the published labels."""
FINDINGS: tuple[str, ...] = get_args(ChestFinding)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Published facts about one set."""

    md5: str
    counts: tuple[int, int, int]
    """Numbers of images for training, validation and test."""
    classes: tuple[str, ...]
    """Names of the classes, in the order of the published labels."""
    source: str
    """Source of the images."""
    shared: str
    """What several images share (for example a patient) without any mark in the data."""
    channels: int = 1
    columns: int = 1
    """Number of labels of one image."""
    licence: str = "CC BY 4.0"
    by_image: bool = False
    """Whether the published split was drawn image by image."""
    cut_to_square: bool = False
    """Whether the publisher cut the middle square out of an image before scaling it."""


FACTS = {
    "pathmnist": Facts(
        md5="a8b06965200029087d5bd730944a56c1",
        counts=(89996, 10004, 7180),
        channels=3,
        classes=(
            "adipose",
            "background",
            "debris",
            "lymphocytes",
            "mucus",
            "smooth muscle",
            "normal colon mucosa",
            "cancer-associated stroma",
            "colorectal adenocarcinoma epithelium",
        ),
        source="Kather et al. (2019), NCT-CRC-HE-100K and CRC-VAL-HE-7K",
        shared="many patches of one slide",
    ),
    "chestmnist": Facts(
        md5="02c8a6516a18b556561a56cbdd36c4a8",
        counts=(78468, 11219, 22433),
        classes=FINDINGS,
        columns=len(FINDINGS),
        source="Wang et al. (2017), NIH ChestX-ray14",
        shared="112,120 X-rays of 30,805 patients",
    ),
    "dermamnist": Facts(
        md5="0744692d530f8e62ec473284d019b0c7",
        counts=(7007, 1003, 2005),
        channels=3,
        classes=(
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevi",
            "vascular lesions",
        ),
        source="Tschandl, Rosendahl & Kittler (2018), HAM10000",
        shared="several photographs of one lesion",
        licence="CC BY-NC 4.0",
        by_image=True,
    ),
    "octmnist": Facts(
        md5="c68d92d5b585d8d81f7112f81e2d0842",
        counts=(97477, 10832, 1000),
        classes=("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
        source="Kermany et al. (2018), Cell 172(5)",
        shared="several scans of one patient",
        cut_to_square=True,
    ),
    "pneumoniamnist": Facts(
        md5="28209eda62fecd6e6a2d98b1501bb15f",
        counts=(4708, 524, 624),
        classes=("normal", "pneumonia"),
        source="Kermany et al. (2018), Cell 172(5)",
        shared="several X-rays of one child",
        cut_to_square=True,
    ),
    "retinamnist": Facts(
        md5="bd4c0672f1bba3e3a89f0e4e876791e4",
        counts=(1080, 120, 400),
        channels=3,
        classes=tuple(f"grade {grade}" for grade in range(5)),
        source="Liu et al. (2022), DeepDRiD",
        shared="several photographs of one patient",
        cut_to_square=True,
    ),
    "breastmnist": Facts(
        md5="750601b1f35ba3300ea97c75c52ff8f6",
        counts=(546, 78, 156),
        classes=("malignant", "normal or benign"),
        source="Al-Dhabyani, Gomaa, Khaled & Fahmy (2020), Dataset of breast ultrasound images",
        shared="780 images of 600 patients",
        by_image=True,
    ),
    "bloodmnist": Facts(
        md5="7053d0359d879ad8a5505303e11de1dc",
        counts=(11959, 1712, 3421),
        channels=3,
        classes=(
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocytes",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ),
        source="Acevedo et al. (2020), A dataset of microscopic peripheral blood cell images",
        shared="many cells of one person",
        by_image=True,
    ),
    "tissuemnist": Facts(
        md5="ebe78ee8b05294063de985d821c1c34b",
        counts=(165466, 23640, 47280),
        classes=(
            "collecting duct, connecting tubule",
            "distal convoluted tubule",
            "glomerular endothelial cells",
            "interstitial endothelial cells",
            "leukocytes",
            "podocytes",
            "proximal tubule segments",
            "thick ascending limb",
        ),
        source="Ljosa, Sokolnicki & Carpenter (2012), Broad Bioimage Benchmark Collection, BBBC051",
        shared="all cells of three specimens",
        by_image=True,
    ),
    "organamnist": Facts(
        md5="68e3f8846a6bd62f0c9bf841c0d9eacc",
        counts=(34561, 6491, 17778),
        classes=_ORGANS,
        source="Bilic et al. (2023), LiTS, axial",
        shared=_SCANS,
    ),
    "organcmnist": Facts(
        md5="b9ceb9546e10131b32923c5bbeaea2b1",
        counts=(12975, 2392, 8216),
        classes=_ORGANS,
        source="Bilic et al. (2023), LiTS, coronal",
        shared=_SCANS,
    ),
    "organsmnist": Facts(
        md5="9ab87b696fb54e2a387ebe992d6ed5f1",
        counts=(13932, 2452, 8827),
        classes=_ORGANS,
        source="Bilic et al. (2023), LiTS, sagittal",
        shared=_SCANS,
    ),
}
