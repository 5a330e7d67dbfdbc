"""The orientation of a PNG is read wherever Pillow would read it, so that no film is answered turned."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from serve.inputs.png import checked_png
from serve.inputs.png_orientation import stated_orientation
from serve.refusals import RefusedError

PIXELS = np.arange(600, dtype=np.uint16).reshape(20, 30).astype(np.uint8)
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{}"/></x:xmpmeta>'


def exif(orientation: int) -> bytes:
    made = Image.Exif()
    made[0x0112] = orientation
    return made.tobytes()


def profile(orientation: int) -> str:
    raw = exif(orientation)
    digits = raw.hex()
    lines = "\n".join(digits[place : place + 72] for place in range(0, len(digits), 72))
    return f"\nexif\n{len(raw):8d}\n{lines}\n"


def png(orientation: int, form: str) -> bytes:
    info, further, buffer = PngImagePlugin.PngInfo(), {}, io.BytesIO()
    if form in ("tEXt", "zTXt"):
        info.add_text("Raw profile type exif", profile(orientation), zip=form == "zTXt")
    elif form.startswith("XMP"):
        info.add_itxt("XML:com.adobe.xmp", XMP.format(orientation), zip=form == "XMP, packed")
    else:
        further = {"exif": exif(orientation)}
    Image.fromarray(PIXELS).save(buffer, "PNG", pnginfo=info, **further)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["eXIf", "tEXt", "zTXt", "XMP", "XMP, packed"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_film_is_refused_and_an_upright_one_is_not(orientation: int, form: str) -> None:
    raw = png(orientation, form)
    turned = not np.array_equal(np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(raw)))), PIXELS)
    assert turned == (orientation != 1), "as the data set would decode it"
    if turned:
        with pytest.raises(RefusedError, match="turned by its metadata"):
            checked_png(raw, most_pixels=1000)
    else:
        assert checked_png(raw, most_pixels=1000)[1:] == (20, 30)


@pytest.mark.parametrize(
    ("name", "content", "orientation"),
    [
        (b"tEXt", b'Comment\0tiff:Orientation="6"', 1),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<a>no orientation</a>", 1),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<tiff:Orientation>8</tiff:Orientation>", 8),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<tiff:Orientation>9</tiff:Orientation>", None),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0not packed", None),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(1 << 21)), None),
        (b"tEXt", b"Raw profile type exif\0\nexif\n   4\nzz", None),
    ],
)
def test_metadata_that_cannot_be_read_are_told(name: bytes, content: bytes, orientation: int | None) -> None:
    assert stated_orientation(name, content) == orientation


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_sixteen_bits_of_colours_are_refused_for_half_of_them_would_be_lost(colour: int) -> None:
    channels = {2: 3, 4: 2, 6: 4}[colour]
    line = b"\0" + bytes(2 * channels)
    raw = b"\x89PNG\r\n\x1a\n"
    header = (1).to_bytes(4, "big") * 2 + bytes([16, colour, 0, 0, 0])
    for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(line)), (b"IEND", b"")):
        raw += len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")
    with pytest.raises(RefusedError, match="16 bits a channel"):
        checked_png(raw, most_pixels=1000)
