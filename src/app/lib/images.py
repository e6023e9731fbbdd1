"""Pictures that people upload, made harmless: decoded within limits, and drawn anew."""

from io import BytesIO
from typing import IO

from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile

from app.lib.errors import InvalidInputError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MAX_PIXELS = {"PNG": 10_000_000, "GIF": 10_000_000, "WEBP": 8_000_000, "JPEG": 24_000_000, "MPO": 24_000_000}
MAX_JPEG_SAMPLES = 60_000_000
"""A pixel of a JPEG is 1.5 to 4 of them. Of a progressive one all are in memory, each in two bytes; pixels are made of
a fraction only. With these limits a picture takes less than 150 MB, and only one at a time does (the gate "pictures").
"""
MAX_SIDE = 16_000
MAX_SCANS = 500
"""Of a JPEG, which has about ten. Each is a walk over the whole picture, and may be written in 42 bytes. What is in
front of the picture and behind it counts, too: ten megabytes of anything at all hold about 150."""
START_OF_SCAN = b"\xff\xda"
CHUNK = 64 * 1024
MEDIA_TYPE = "image/webp"
"""Every browser shows it, it can be transparent, and it is the smallest of those that are and can."""


def square_picture(content: IO[bytes], *, side: int) -> bytes:
    """The middle of a picture as WebP of at most `side` pixels each way: no metadata, colour profile or trailing
    bytes, and turned the way its EXIF data said.

    Raises InvalidInputError for what is no picture, is damaged, moves, or has too many pixels.
    """
    content.seek(0)
    try:
        with Image.open(content, formats=FORMATS) as image:
            _refuse_excess(image, content)
            return _encode(_redraw(image, side))
    except InvalidInputError:
        raise
    except Exception as error:  # what decoders raise for hostile bytes is written down nowhere
        raise InvalidInputError("This is not a picture that can be read.", field="file") from error


def _refuse_excess(image: Image.Image, content: IO[bytes]) -> None:
    """By what the header says: nothing has been decoded yet."""
    width, height = image.size
    limit = _pixels_allowed(image)
    if width * height > limit or max(width, height) > MAX_SIDE:
        allowed = f"{limit / 10**6:g} million pixels, or {MAX_SIDE} on a side"
        raise InvalidInputError(f"The picture has more than {allowed}.", field="file")
    if image.format in {"PNG", "WEBP", "GIF"} and getattr(image, "is_animated", False):
        raise InvalidInputError("The picture moves; only still ones are accepted.", field="file")
    if isinstance(image, JpegImageFile) and _has_too_many_scans(content):
        raise InvalidInputError(f"The picture is drawn in more than {MAX_SCANS} steps.", field="file")


def _pixels_allowed(image: Image.Image) -> int:
    limit = MAX_PIXELS[image.format or ""]
    if not isinstance(image, JpegImageFile):
        return limit
    samples = sum(across * down for _, across, down, _ in image.layer)
    whole = max(across for _, across, _, _ in image.layer) * max(down for _, _, down, _ in image.layer)
    return min(limit, MAX_JPEG_SAMPLES * whole // samples)


def _has_too_many_scans(content: IO[bytes]) -> bool:
    at = content.tell()
    content.seek(0)
    scans, last = 0, b""
    while scans <= MAX_SCANS and (chunk := content.read(CHUNK)):
        scans += (last + chunk).count(START_OF_SCAN)
        last = chunk[-1:]
    content.seek(at)
    return scans > MAX_SCANS


def _redraw(image: Image.Image, side: int) -> Image.Image:
    image.draft("RGB", (side * 2, side * 2))  # the fraction, for JPEG
    side = min(side, *image.size)
    mode = "RGBA" if image.has_transparency_data else "RGB"
    plain = image if image.mode == mode else image.convert(mode)  # which would copy it in any case
    return ImageOps.exif_transpose(ImageOps.fit(plain, (side, side)))


def _encode(image: Image.Image) -> bytes:
    encoded = BytesIO()
    image.info.clear()  # the encoder would write some of it
    image.save(encoded, "WEBP", quality=85, method=4)
    return encoded.getvalue()
