"""ImageNet, the 1,000 classes of the 2012 challenge (Russakovsky et al. 2015), streamed from a folder of JPEG files."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from assay.data.base import Dataset, Normalisation
from assay.data.images.files import Decoder
from assay.data.images.folder import ImageSource
from assay.data.images.listing import Listing, listed
from assay.data.images.synthetic import make_image_folder
from assay.data.locate import absent, cache, find
from assay.errors import DataError
from assay.registry import register

_LAYOUT = "imagenet/train/<class>/*.JPEG and imagenet/val/<class>/*.JPEG, a folder a class, such as n01440764"
_ADDRESS = "https://image-net.org/download-images"
_PUBLISHED = {"train": 1_281_167, "test": 50_000}


@register("dataset")
class ImageNet(ImageSource):
    """Photographs of 1,000 classes. The published validation images, in ``val/``, are the test split.

    Images are never all in memory: each is decoded on access, its shorter side scaled to 8/7 of ``size`` and its middle
    cut out, as is usual. Validation records are drawn from the training images.
    """

    name: Literal["imagenet"] = "imagenet"
    size: int = Field(default=224, ge=8)
    """Side of a record in pixels."""
    synthetic: int = Field(default=0, ge=0)
    """Number of synthetic training images to draw instead of using the real ones, with a quarter as many for testing,
    into Assay's cache: to test that a study runs."""
    synthetic_classes: int = Field(default=4, ge=2)

    def load(self) -> Dataset:
        root = self._drawn() if self.synthetic else self._root()
        listing = listed(root, {"train": "train", "val": "test"}, dataset=self.name)
        return self.gathered(
            listing,
            Decoder(height=self.size, width=self.size, channels=3, convert=True, shorter=self._shorter),
            stream=True,
            name="imagenet_synthetic" if self.synthetic else self.name,
            normalisation=Normalisation(mean=(0.485, 0.456, 0.406), deviation=(0.229, 0.224, 0.225)),
            licence="drawn by Assay" if self.synthetic else "ImageNet terms of access: research and education only",
            citation=""
            if self.synthetic
            else "Russakovsky, Deng, Su et al. (2015), ImageNet Large Scale Visual "
            "Recognition Challenge, International Journal of Computer Vision 115:211-252",
            warnings=self._warnings(listing),
            stated=self._warnings(listing),
        )

    @property
    def _shorter(self) -> int:
        return round(self.size * 8 / 7)

    def _root(self) -> Path:
        obtain = (
            f"register at {_ADDRESS}, fetch ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar, and unpack them to "
            f"{_LAYOUT}; to see the study run without them, set synthetic: 64"
        )
        root = find(self.name)
        if root is None:
            raise absent(self.name, wanted=f"{self.name}/train", obtain=obtain)
        for part in ("train", "val"):
            if not (root / part).is_dir():
                raise DataError(f"imagenet: {part}/ is missing in {root}; {obtain}")
        return root

    def _drawn(self) -> Path:
        classes = self.synthetic_classes
        train = max(2, self.synthetic // classes)
        kind = f"{classes}-classes-{train}-images-{self._shorter}-pixels"
        return make_image_folder(
            cache() / "imagenet_synthetic" / kind,
            classes=classes,
            per_class={"train": train, "val": max(1, train // 4)},
            size=self._shorter,
            seed=0,
        )

    def _warnings(self, listing: Listing) -> tuple[str, ...]:
        if self.synthetic:
            return ("images drawn by a program: the figures show that the study runs, and nothing of ImageNet",)
        assert listing.official is not None
        counts = {part: int((listing.official == part).sum()) for part in _PUBLISHED}
        if counts == _PUBLISHED and len(listing.classes) == 1000:
            return ()
        return (
            f"a subset: {len(listing.classes)} classes, {counts['train']} training and {counts['test']} test images, "
            "instead of 1000, 1281167 and 50000",
        )
