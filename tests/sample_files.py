"""The smallest files of each kind, and what may be hidden in them."""

import zlib
from io import BytesIO
from struct import pack
from zipfile import ZipFile, ZipInfo

from PIL import Image

SCRIPT = b"<script>alert(1)</script>"
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


def picture(kind: str = "PNG", *, size: tuple[int, int] = (8, 6), mode: str = "RGB", **options: object) -> bytes:
    encoded = BytesIO()
    Image.new(mode, size).save(encoded, kind, **options)
    return encoded.getvalue()


def moving_picture(kind: str) -> bytes:
    encoded = BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(encoded, kind, save_all=True, append_images=frames[1:])
    return encoded.getvalue()


def archive(*names: str) -> bytes:
    encoded = BytesIO()
    with ZipFile(encoded, "w") as file:
        for name in names or ("a.txt",):
            file.writestr(ZipInfo(name), "content")  # which always has the same date
    return encoded.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content))


def png_bomb(width: int, height: int) -> bytes:
    """Some kilobytes that would be decoded to any number of pixels."""
    header = png_chunk(b"IHDR", pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(3_000_000), 9))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + png_chunk(b"IEND", b"")


def png_with(comment: bytes) -> bytes:
    """A valid picture that holds the text in a chunk of its own."""
    plain = picture()
    return plain[:33] + png_chunk(b"tEXt", b"Comment\0" + comment) + plain[33:]
