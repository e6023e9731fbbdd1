import time
from io import BytesIO
from struct import pack

import pytest
from PIL import Image, ImageCms

from app.lib.errors import InvalidInputError
from app.lib.images import MAX_PIXELS, MAX_SCANS, MAX_SIDE, square_picture
from tests.sample_files import PDF, jpeg_of_scans, moving_picture, picture, png_bomb, png_with

pytestmark = pytest.mark.unit

ORIENTATION, DESCRIPTION = 0x0112, 0x010E
JPEG = picture("JPEG", size=(600, 400))


def drawn(content: bytes, *, side: int = 64) -> Image.Image:
    return Image.open(BytesIO(square_picture(BytesIO(content), side=side)))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("PNG", "RGB"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("PNG", "LA"),
        ("PNG", "1"),
        ("PNG", "I;16"),
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("GIF", "P"),
        ("WEBP", "RGBA"),
    ],
)
def test_a_picture_becomes_a_small_square_of_webp(kind: str, mode: str) -> None:
    image = drawn(picture(kind, size=(300, 200), mode=mode))

    assert (image.format, image.size) == ("WEBP", (64, 64))
    assert image.has_transparency_data is mode.endswith("A")


@pytest.mark.parametrize(("size", "side"), [((30, 20), 20), ((1, 400), 1), ((2500, 4000), 64)])
def test_it_is_never_enlarged(size: tuple[int, int], side: int) -> None:
    assert drawn(picture(size=size)).size == (side, side)


def test_a_photograph_of_a_telephone_may_hold_a_second_picture_and_be_larger() -> None:
    photograph = Image.new("RGB", (6000, 4000))
    encoded = BytesIO()
    photograph.save(encoded, "MPO", save_all=True, append_images=[Image.new("RGB", (60, 40))])

    assert photograph.width * photograph.height == MAX_PIXELS["JPEG"]
    assert drawn(encoded.getvalue()).size == (64, 64)
    with pytest.raises(InvalidInputError):
        drawn(picture("JPEG", size=(6001, 4000)))


def test_it_is_turned_the_way_its_exif_data_say_and_they_are_gone() -> None:
    tall = Image.new("RGB", (200, 300), "black")
    tall.paste("red", (0, 0, 200, 150))
    exif = Image.Exif()
    exif[ORIENTATION], exif[DESCRIPTION] = 6, "at home, 52.5 N 13.4 E"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    encoded = BytesIO()
    tall.save(encoded, "JPEG", exif=exif, comment=b"at home", icc_profile=profile, xmp=b"<x:xmpmeta>at home")

    small = square_picture(encoded, side=64)

    image = Image.open(BytesIO(small)).convert("RGB")
    assert image.getpixel((60, 32)) > (200, 50, 50) > image.getpixel((4, 32))  # type: ignore[operator]  # pixels are tuples here
    assert b"at home" in encoded.getvalue()
    assert not any(word in small for word in (b"at home", b"EXIF", b"ICCP", b"XMP "))


def test_text_inside_a_picture_is_left_behind() -> None:
    assert b"alert" not in square_picture(BytesIO(png_with(b"<script>alert(1)</script>")), side=64)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        PDF,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        picture("BMP"),
        picture("TIFF"),
        picture("ICO", size=(16, 16)),
        JPEG[:-200],
        JPEG[: len(JPEG) // 2],
        picture(size=(300, 300))[:150],
        b"GIF89a" + bytes(7),
        b"RIFF\x24\0\0\0WEBPVP8 " + bytes(24),
        moving_picture("GIF"),
        moving_picture("WEBP"),
        moving_picture("PNG"),
        b"GIF89a" + pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + picture("GIF", mode="P")[13:],
        b"\x89PNG\r\n\x1a\n" + pack(">I", 2**31 - 1) + b"IHDR",
        picture()[:40] + b"\xff" * 20 + picture()[60:],
    ],
    ids=range(18),
)
def test_what_is_no_whole_still_picture_of_the_web_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInputError):
        square_picture(BytesIO(content), side=64)


@pytest.mark.parametrize("size", [(5000, 2001), (20_000, 20_000), (100_000, 100_000), (MAX_SIDE + 1, 1), (0, 0)])
def test_a_bomb_is_refused_by_its_header(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("it was decoded"))

    with pytest.raises(InvalidInputError):
        square_picture(BytesIO(png_bomb(*size)), side=64)


@pytest.mark.parametrize(
    ("kind", "mode", "size", "options"),
    [
        ("WEBP", "RGBA", (4000, 2001), {}),
        ("JPEG", "RGB", (5000, 4001), {"subsampling": 0}),
        ("JPEG", "CMYK", (5000, 3001), {"progressive": True}),
        ("JPEG", "L", (1, MAX_SIDE + 1), {}),
    ],
)
def test_what_would_take_more_memory_than_others_has_a_lower_limit(
    kind: str, mode: str, size: tuple[int, int], options: dict[str, object]
) -> None:
    smaller = (size[0], size[1] - 1)

    with pytest.raises(InvalidInputError, match="invalid"):
        drawn(picture(kind, mode=mode, size=size, **options))
    assert drawn(picture(kind, mode=mode, size=smaller, **options)).format == "WEBP"


def test_a_jpeg_of_many_empty_scans_is_refused_before_it_is_decoded() -> None:
    content = jpeg_of_scans(4000, 6000, scans=50 * MAX_SCANS)

    began = time.monotonic()
    with pytest.raises(InvalidInputError) as refused:
        drawn(content)

    assert time.monotonic() - began < 1
    assert "steps" in refused.value.message


def test_a_jpeg_of_several_scans_is_drawn() -> None:
    assert drawn(jpeg_of_scans(400, 400, scans=MAX_SCANS)).size == (64, 64)
