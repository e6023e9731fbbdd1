"""Pictures that people upload, made harmless: decoded within limits, and drawn anew."""

from io import BytesIO
from typing import IO

from PIL import Image, ImageOps

from app.lib.errors import InvalidInputError

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MAX_PIXELS = 10_000_000
MAX_JPEG_PIXELS = 24_000_000
"""JPEG is decoded at a fraction of its size. Either way it takes less than 150 MB, and only one at a time does (the
gate "pictures")."""
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
            _refuse_excess(image)
            return _encode(_redraw(image, side))
    except InvalidInputError:
        raise
    except Exception as error:  # what decoders raise for hostile bytes is written down nowhere
        raise InvalidInputError("This is not a picture that can be read.", field="file") from error


def _refuse_excess(image: Image.Image) -> None:
    """By what the header says: nothing has been decoded yet."""
    width, height = image.size
    limit = MAX_JPEG_PIXELS if image.format in {"JPEG", "MPO"} else MAX_PIXELS
    if width * height > limit:
        raise InvalidInputError(f"The picture has more than {limit // 10**6} million pixels.", field="file")
    if image.format in {"PNG", "WEBP", "GIF"} and getattr(image, "is_animated", False):
        raise InvalidInputError("The picture moves; only still ones are accepted.", field="file")


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
