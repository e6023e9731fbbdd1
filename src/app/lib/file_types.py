"""What an uploaded file is. Its bytes tell; the end of its name must agree."""

import codecs
import os
import re
import struct
from collections.abc import Callable, Collection, Iterator
from typing import IO, NamedTuple

import puremagic

from app.lib.errors import InvalidInputError
from app.lib.schema import LINE

MAX_NAME = 255
CHUNK = 64 * 1024
SNIFFED = 1445
"""Bytes that browsers look at (WHATWG MIME Sniffing, section 5.2)."""
MAX_PIECES = 200_000
"""Of an image. Pictures have fewer; more would only cost time."""
MAX_DIRECTORY = 2 * 1024 * 1024
"""Bytes of a zip archive's list of names."""
MARKUP = re.compile(
    rb"<(?:!doctype|html|head|body|script|style|iframe|svg|img|object|embed|meta|link|\?php)[\s>/]", re.IGNORECASE
)
INSTRUCTION = re.compile(rb"<\?(?:=|xml\s)", re.IGNORECASE)
"""Looked for at the beginning only: so short, it is somewhere in many a picture, and cameras write XML of their own."""
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
ACTIVE_START = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<[a-z!?/]|#!)", re.IGNORECASE)
CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")
ACTIVE_ENDINGS = frozenset(
    {"bat", "cmd", "exe", "hta", "htm", "html", "jar", "jsp", "lnk", "msi", "php", "phtml", "scr", "svg", "vbs"}
)


class Kind(NamedTuple):
    media_type: str
    is_one: Callable[[IO[bytes]], bool]


def plain_name(name: str) -> str:
    """The name, if a file can have it: neither a path nor anything that is not shown.

    Raises InvalidInputError. It is metadata only, but it comes back to people and their file systems.
    """
    if not re.fullmatch(LINE, name) or re.search(r"[/\\]", name) or name.strip(" .") != name or not name:
        raise InvalidInputError("This is not the plain name of a file.", field="file")
    if len(name.encode()) > MAX_NAME:
        raise InvalidInputError(f"The name is longer than {MAX_NAME} bytes.", field="file")
    return name


def media_type_of(content: IO[bytes], *, name: str, allowed: Collection[str]) -> str:
    """Raises InvalidInputError when the name's ending is not allowed, or not that of the content."""
    stem, *endings = name.lower().split(".")
    ending = endings[-1] if stem and endings else ""
    if ending not in {each.lower().removeprefix(".") for each in allowed}:
        raise InvalidInputError("Files of this type are not accepted.", field="file")
    if ACTIVE_ENDINGS.intersection(endings[:-1]):
        raise InvalidInputError("The name has the endings of two types.", field="file")
    media_type = KINDS[ending].media_type if ending in KINDS else _by_signature(content, ending)
    if media_type is None or (ending in KINDS and not _is(KINDS[ending], content)):
        raise InvalidInputError(f"The content is not that of a .{ending} file.", field="file")
    return media_type


def _is(kind: Kind, content: IO[bytes]) -> bool:
    content.seek(0)
    return kind.is_one(content)


def _by_signature(content: IO[bytes], ending: str) -> str | None:
    """For types that have no rule here: weaker, but what a browser might run is never one of them."""
    if _starts_actively(content) or _archive(content):
        return None
    content.seek(0)
    try:
        found = puremagic.magic_stream(content)
    except (puremagic.PureError, ValueError):
        return None
    return next((each.mime_type for each in found if each.extension == f".{ending}" and each.mime_type), None)


def _size(content: IO[bytes]) -> int:
    return content.seek(0, os.SEEK_END)


def _starts_actively(content: IO[bytes]) -> bool:
    """Markup or a script, to somebody who looks at the beginning alone."""
    content.seek(0)
    start = content.read(SNIFFED)
    return bool(ACTIVE_START.match(start) or MARKUP.search(start) or INSTRUCTION.search(start))


def _holds_markup(content: IO[bytes]) -> bool:
    content.seek(0)
    last = b""
    while chunk := content.read(CHUNK):
        if MARKUP.search(last + chunk):
            return True
        last = chunk[-16:]
    return False


class Archive(NamedTuple):
    """Where a zip archive lies in a file: its list of names, its end, and where the list should be by its own word."""

    directory: int
    length: int
    stop: int
    claimed_directory: int


def _archive(content: IO[bytes]) -> Archive | None:
    """Readers look for it from the end, so it may follow, or be inside, something else."""
    size = _size(content)
    start = content.seek(max(0, size - 65_557))
    tail = content.read()
    at = len(tail)
    while (at := tail.rfind(b"PK\5\6", 0, at)) >= 0:
        if len(tail) - at < 22:
            continue
        length, claimed, comment = struct.unpack_from("<IIH", tail, at + 12)
        directory = start + at - length
        if directory >= 0 and content.seek(directory) == directory and content.read(4) == b"PK\1\2":
            return Archive(directory, length, start + at + 22 + comment, claimed)
    return None


def _names(content: IO[bytes]) -> set[str]:
    """What is in an archive that is nothing else: it begins where the file does and ends with it. Otherwise nothing."""
    archive, size = _archive(content), _size(content)
    content.seek(0)
    if not archive or content.read(4) != b"PK\3\4" or archive.stop != size or archive.length > MAX_DIRECTORY:
        return set()
    if archive.directory != archive.claimed_directory:
        return set()
    content.seek(archive.directory)
    directory, names, at = content.read(archive.length), set(), 0
    while directory[at : at + 4] == b"PK\1\2" and at + 46 <= len(directory):
        name, extra, comment = struct.unpack_from("<HHH", directory, at + 28)
        names.add(directory[at + 46 : at + 46 + name].decode("utf-8", "replace"))
        at += 46 + name + extra + comment
    return names


def _is_zip(content: IO[bytes]) -> bool:
    return bool(_names(content))


def _is_office(main: str) -> Callable[[IO[bytes]], bool]:
    def is_one(content: IO[bytes]) -> bool:
        """Without macros: those have endings of their own."""
        names = _names(content)
        return {"[Content_Types].xml", main} <= names and not any("vbaproject" in each.lower() for each in names)

    return is_one


def _is_text(content: IO[bytes]) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while chunk := content.read(CHUNK):
            decoder.decode(chunk)
            if CONTROLS.search(chunk):
                return False
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return not _starts_actively(content)


def _is_pdf(content: IO[bytes]) -> bool:
    is_begun = content.read(5) == b"%PDF-"
    content.seek(max(0, _size(content) - 1024))
    is_ended = b"%%EOF" in content.read()
    return is_begun and is_ended and not _starts_actively(content) and not _archive(content)


def _is_image(begins: Callable[[IO[bytes]], bool]) -> Callable[[IO[bytes]], bool]:
    def is_one(content: IO[bytes]) -> bool:
        return (
            begins(content) and not _starts_actively(content) and not _holds_markup(content) and not _archive(content)
        )

    return is_one


def _is_png(content: IO[bytes]) -> bool:
    """Chunks up to IEND, and nothing behind it (PNG specification, section 5)."""
    if content.read(8) != b"\x89PNG\r\n\x1a\n":
        return False
    for _ in range(MAX_PIECES):
        head = content.read(8)
        if len(head) < 8:
            return False
        content.seek(int.from_bytes(head[:4]) + 4, os.SEEK_CUR)
        if head[4:] == b"IEND":
            return content.tell() == _size(content)
    return False


def _is_jpeg(content: IO[bytes]) -> bool:
    """Segments up to the first scan, with a frame among them (ITU T.81, appendix B). Telephones append more pictures
    and depth maps, so what follows cannot be refused."""
    start = content.read(6)
    if start[:3] != b"\xff\xd8\xff" or start[4:] == b"/*":  # which would begin a comment in a script
        return False
    content.seek(2)
    has_frame = False
    for _ in range(MAX_PIECES):
        head = content.read(4)
        if len(head) < 4 or head[0] != 0xFF or head[1] < 0xC0 or 0xD0 <= head[1] <= 0xD9:
            return False
        if head[1] == 0xDA:
            return has_frame
        if head[1] == 0xFF:  # a fill byte
            content.seek(-3, os.SEEK_CUR)
            continue
        has_frame |= head[1] in FRAMES
        content.seek(int.from_bytes(head[2:]) - 2, os.SEEK_CUR)
    return False


def _is_webp(content: IO[bytes]) -> bool:
    start = content.read(12)
    length = int.from_bytes(start[4:8], "little") + 8
    is_comment = start[4:6] == b"/*"
    return start[:4] == b"RIFF" and start[8:] == b"WEBP" and not is_comment and length == _size(content)


def _is_gif(content: IO[bytes]) -> bool:
    """Blocks up to the trailer, and nothing behind it (GIF89a, appendix A)."""
    screen = content.read(13)
    if len(screen) < 13 or screen[:6] not in {b"GIF87a", b"GIF89a"} or screen[6:8] == b"/*":
        return False
    content.seek(_colours(screen[10]), os.SEEK_CUR)
    pieces = iter(range(MAX_PIECES))
    for _ in pieces:
        match content.read(1):
            case b";":
                return content.tell() == _size(content)
            case b"!":
                content.seek(1, os.SEEK_CUR)
            case b",":
                descriptor = content.read(9).ljust(9, b"\0")
                content.seek(_colours(descriptor[8]) + 1, os.SEEK_CUR)
            case _:
                return False
        if not _skip_blocks(content, pieces):
            return False
    return False


def _colours(flags: int) -> int:
    """Bytes of the table of colours that the flags announce."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_blocks(content: IO[bytes], pieces: Iterator[int]) -> bool:
    for _ in pieces:
        length = content.read(1)
        if length in {b"", b"\0"}:
            return length == b"\0"
        content.seek(length[0], os.SEEK_CUR)
    return False


KINDS = {
    "pdf": Kind("application/pdf", _is_pdf),
    "png": Kind("image/png", _is_image(_is_png)),
    "jpg": Kind("image/jpeg", _is_image(_is_jpeg)),
    "jpeg": Kind("image/jpeg", _is_image(_is_jpeg)),
    "gif": Kind("image/gif", _is_image(_is_gif)),
    "webp": Kind("image/webp", _is_image(_is_webp)),
    "txt": Kind("text/plain; charset=utf-8", _is_text),
    "csv": Kind("text/csv; charset=utf-8", _is_text),
    "docx": Kind(
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document", _is_office("word/document.xml")
    ),
    "xlsx": Kind("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", _is_office("xl/workbook.xml")),
    "zip": Kind("application/zip", _is_zip),
}
