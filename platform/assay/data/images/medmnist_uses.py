"""Whom the images of MedMNIST are of, as the publishers of their sources state it."""

from assay.data.images.chest_xray import CHILDREN
from assay.data.intended_use import IntendedUse


def _scan(plane: str) -> IntendedUse:
    return IntendedUse(
        records=f"single organs in {plane} slices of computed tomography of the abdomen",
        species="human",
        modalities=("CT",),
        body_parts=("ABDOMEN",),
    )


USES = {
    "pathmnist": IntendedUse(
        records="patches of stained tissue of colorectal cancer under the microscope",
        species="human",
        modalities=("SM",),
        body_parts=("COLON", "RECTUM"),
    ),
    "chestmnist": IntendedUse(
        records="frontal chest X-rays, NIH Clinical Center",
        species="human",
        modalities=("CR", "DX"),
        body_parts=("CHEST",),
        views=("AP", "PA"),
        sites=("NIH Clinical Center",),
    ),
    "dermamnist": IntendedUse(
        records="dermatoscopic images of pigmented lesions of the skin, Austria and Australia",
        species="human",
        modalities=("DMS", "XC"),
        body_parts=("SKIN",),
    ),
    "octmnist": IntendedUse(
        records="sections of the retina by optical coherence tomography",
        species="human",
        modalities=("OPT",),
        body_parts=("EYE", "RETINA"),
    ),
    "pneumoniamnist": CHILDREN,
    "retinamnist": IntendedUse(
        records="photographs of the fundus of the DeepDRiD challenge",
        species="human",
        modalities=("OP",),
        body_parts=("EYE", "RETINA"),
    ),
    "breastmnist": IntendedUse(
        records="ultrasound images of the breast of women of 25 to 75 years, Baheya Hospital, Cairo",
        species="human",
        ages=(25, 75),
        sexes=("F",),
        modalities=("US",),
        body_parts=("BREAST",),
        sites=("Baheya Hospital",),
    ),
    "bloodmnist": IntendedUse(
        records="single cells of normal blood under the microscope, Hospital Clínic of Barcelona",
        species="human",
        modalities=("SM", "GM"),
        sites=("Hospital Clínic of Barcelona",),
    ),
    "tissuemnist": IntendedUse(
        records="single cells of the cortex of the kidney under the microscope",
        species="human",
        modalities=("SM", "GM"),
        body_parts=("KIDNEY",),
    ),
    "organamnist": _scan("axial"),
    "organcmnist": _scan("coronal"),
    "organsmnist": _scan("sagittal"),
}
