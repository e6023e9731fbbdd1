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


def jpeg_of_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG of one colour whose scans say "nothing here", each in a few bytes (ITU T.81, appendix G)."""
    runs = -(-(-(-width // 8) * -(-height // 8)) // 32_766)
    bits = ("0" + "1" * 13 + "0") * runs  # "32 766 empty blocks": the code of EOB14, and 14 bits more
    bits += "1" * (-len(bits) % 8)
    nothing = int(bits, 2).to_bytes(len(bits) // 8).replace(b"\xff", b"\xff\0")
    grey = _segment(0xDA, b"\1\1\0\0\0\0") + bytes(-(-(-(-width // 8) * -(-height // 8)) // 8))
    return b"".join(
        [
            b"\xff\xd8",
            _segment(0xDB, b"\0" + b"\1" * 64),
            _segment(0xC2, pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"),
            _segment(0xC4, b"\0" + b"\1" + bytes(15) + b"\0"),
            _segment(0xC4, b"\x10" + b"\1" + bytes(15) + b"\xe0"),
            grey,
            (_segment(0xDA, b"\1\1\0\1\x3f\0") + nothing) * (scans - 1),
            b"\xff\xd9",
        ]
    )


def _segment(marker: int, content: bytes) -> bytes:
    return pack(">BBH", 0xFF, marker, len(content) + 2) + content
