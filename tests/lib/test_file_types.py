from io import BytesIO

import pytest
from PIL import Image

from app.lib.errors import InvalidInputError
from app.lib.file_types import media_type_of, plain_name
from app.lib.settings import Settings
from tests.sample_files import PDF, SCRIPT, archive, jpeg_of_scans, moving_picture, picture, png_chunk, png_with

pytestmark = pytest.mark.unit

ALLOWED = (*Settings.model_fields["allowed_extensions"].default, "mp4", "MP3", ".wav", "svg", "html", "js")
DOCX = archive("[Content_Types].xml", "word/document.xml")
XLSX = archive("[Content_Types].xml", "xl/workbook.xml")
MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(64)
GIF = picture("GIF", mode="P")
JPEG = picture("JPEG")


def str_only(value: str | bytes) -> str:
    """Contents would be long names of tests."""
    return value if isinstance(value, str) else "content"


def told(name: str, content: bytes) -> str:
    return media_type_of(BytesIO(content), name=name, allowed=ALLOWED)


@pytest.mark.parametrize(
    ("name", "content", "media_type"),
    [
        ("a.png", picture(), "image/png"),
        ("a.PNG", picture(), "image/png"),
        ("a.jpg", JPEG, "image/jpeg"),
        ("a.jpg", JPEG[:2] + b"\xff\xff\xff" + JPEG[2:], "image/jpeg"),
        ("a.jpg", jpeg_of_scans(64, 64, scans=10), "image/jpeg"),
        ("a.jpg", picture("MPO", save_all=True, append_images=[Image.new("RGB", (4, 4))]), "image/jpeg"),
        (
            "a.jpg",
            picture("JPEG", exif=b"Exif\0\0" + bytes(60_000), xmp=b"<?xpacket begin=''?><x:xmpmeta/>"),
            "image/jpeg",
        ),
        ("a.jpeg", JPEG + b"a second picture of the telephone", "image/jpeg"),
        ("a.gif", GIF, "image/gif"),
        ("a.gif", moving_picture("GIF"), "image/gif"),
        ("a.webp", picture("WEBP"), "image/webp"),
        ("a.pdf", PDF, "application/pdf"),
        ("a.txt", "Grüße, 5 < 6 & <3".encode(), "text/plain; charset=utf-8"),
        ("a.txt", "é".encode() * 70_000, "text/plain; charset=utf-8"),
        ("a.csv", b"\xef\xbb\xbfa;b\r\n1;2\r\n", "text/csv; charset=utf-8"),
        ("a.docx", DOCX, "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("a.xlsx", XLSX, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("a.zip", archive("a.txt", "b/index.html"), "application/zip"),
        ("version 1.2 of my report.pdf", PDF, "application/pdf"),
        ("a.mp4", MP4, "video/mp4"),
        ("a.mp3", b"ID3\x03" + bytes(64), "audio/mpeg"),
        ("a.wav", b"RIFF\x24\0\0\0WAVEfmt " + bytes(24), "audio/wave"),
    ],
    ids=str_only,
)
def test_a_file_is_what_its_bytes_say(name: str, content: bytes, media_type: str) -> None:
    assert told(name, content) == media_type


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("html.png", b"<!DOCTYPE html><html>" + SCRIPT),
        ("html.txt", b"\n <html><body>hello"),
        ("html after some text.txt", b"hello " + SCRIPT),
        ("comment.txt", b"<!-- -->hello"),
        ("xml.txt", b"<?xml version='1.0'?><a/>"),
        ("svg.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("svg.txt", b"\xef\xbb\xbf<svg/>"),
        ("shell.txt", b"#!/bin/sh\nrm -rf /"),
        ("svg.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("html.html", b"<html></html>"),
        ("script.js", b"alert(1)"),
        ("nul.txt", b"a\0b"),
        ("escape.txt", b"\x1b[31mred"),
        ("latin-1.csv", "Grüße".encode("latin-1")),
        ("utf-16.txt", "hello".encode("utf-16")),
        ("cut.txt", "é".encode()[:1]),
        ("gif.png", GIF),
        ("png.jpg", picture()),
        ("png and html.png", picture() + b"<html>"),
        ("png with html.png", png_with(b"<html >")),
        ("png with a late script.png", picture()[:-12] + png_chunk(b"tEXt", bytes(65_530) + SCRIPT) + picture()[-12:]),
        ("png and zip.png", picture() + archive()),
        ("png with zip.png", png_with(archive())),
        ("png, cut.png", picture()[:-4]),
        ("png without an end.png", picture()[:-12]),
        ("png of endless chunks.png", picture()[:8] + png_chunk(b"tEXt", b"") * 200_001),
        ("gif and script.gif", GIF + b"=1;alert(1)"),
        ("gif as comment.gif", b"GIF89a/*" + GIF[8:]),
        ("gif with a script.gif", GIF[:-1] + b"!\xfe" + bytes([len(SCRIPT)]) + SCRIPT + b"\0;"),
        ("gif, cut.gif", GIF[:-2]),
        ("gif of endless blocks.gif", GIF[:-1] + b"!\xfe" + b"\1 " * 200_001 + b"\0;"),
        ("gif, its head.gif", GIF[:9]),
        ("jpeg as comment.jpg", b"\xff\xd8\xff\xe0/*" + JPEG[6:]),
        ("three bytes.jpg", b"\xff\xd8\xff"),
        ("three bytes and text.jpg", b"\xff\xd8\xff\xe0\x00\x10" + b"text " * 100),
        ("jpeg without a picture.jpg", JPEG[:20] + b"\xff\xda\0\2"),
        ("jpeg, its head.jpg", JPEG[:100]),
        ("jpeg that goes back.jpg", JPEG[:2] + b"\xff\xe0\0\0" * 10),
        ("webp as comment.webp", b"RIFF/*\0\0WEBP" + bytes(0x2A2F - 4)),
        ("png with svg.png", png_with(b"<svg onload=alert(1)>")),
        ("png with an image.png", png_with(b"<img src=x onerror=alert(1)>")),
        ("png with a short tag.png", png_with(b"<?=`id`?>")),
        ("jpeg and zip.jpg", JPEG + archive()),
        ("jpeg and zip and more.jpg", JPEG + archive() + b"tail"),
        ("jpeg and html.jpg", JPEG + b"<body>"),
        ("webp and html.webp", picture("WEBP") + b"<html>"),
        ("pdf and zip.pdf", PDF + archive()),
        ("pdf around zip.pdf", PDF[:9] + archive() + PDF[9:]),
        ("html in pdf.pdf", PDF[:9] + b"<html>" + PDF[9:]),
        ("pdf, late.pdf", b"hello" + PDF),
        ("pdf, cut.pdf", PDF[:-8]),
        ("zip after pdf.zip", PDF + archive()),
        ("zip and more.zip", archive() + b"tail"),
        ("zip, cut.zip", archive()[:-1]),
        ("zip of nothing.zip", b"PK\5\6" + bytes(18)),
        ("zip.docx", archive()),
        ("xlsx.docx", XLSX),
        ("macros.docx", archive("[Content_Types].xml", "word/document.xml", "word/vbaProject.bin")),
        ("page.html.png", picture()),
        ("invoice.EXE.pdf", PDF),
        ("invoice.pdf.exe", PDF),
        ("no ending", PDF),
        (".png", picture()),
        ("png.", picture()),
        ("html.mp4", b"<html>" + bytes(64)),
        ("zip.mp4", MP4 + archive()),
        ("text.mp4", b"hello"),
        ("nothing.mp4", b""),
        ("nothing.txt.png", b""),
    ],
    ids=str_only,
)
def test_what_is_not_what_its_name_says_is_refused(name: str, content: bytes) -> None:
    with pytest.raises(InvalidInputError):
        told(name, content)


def test_an_archive_whose_list_of_names_is_huge_is_refused_unread() -> None:
    assert told("a.zip", archive(*map(str, range(10_000)))) == "application/zip"
    with pytest.raises(InvalidInputError):
        told("a.zip", archive(*map(str, range(50_000))))


@pytest.mark.parametrize("name", ["a.png", "Grüße aus 東京.jpg", "a b'c\"d;e.txt", "%2e%2e.txt", "é" * 125 + ".txt"])
def test_a_plain_name_stays_as_it_is(name: str) -> None:
    assert plain_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        "../../etc/passwd.png",
        "/etc/passwd.png",
        "a/b.png",
        "C:\\temp\\a.png",
        "a\0.png",
        "a\n.png",
        "a.png\n",
        "a\x7f.png",
        "a\u202egnp.exe",
        "a\u2066.png",
        "a\u2028.png",
        " a.png",
        "a.png.",
        "a.png ",
        ".htaccess",
        "é" * 126 + ".txt",
    ],
)
def test_a_path_or_a_name_that_hides_something_is_refused(name: str) -> None:
    with pytest.raises(InvalidInputError):
        plain_name(name)
