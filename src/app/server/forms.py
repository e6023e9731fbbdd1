"""A multipart body, received on the event loop into temporary files, and refused as soon as it is too much."""

from collections.abc import AsyncIterator
from typing import Any

from litestar.datastructures import UploadFile
from multipart import (  # type: ignore[import-untyped]  # it has annotations, but does not say so
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
)

from app.lib.errors import ApplicationError, InvalidInputError

IN_MEMORY = 64 * 1024
"""Bytes of a file; a larger one goes to the disk."""
MAX_PARTS = 20
MAX_TEXT = 64 * 1024
"""Bytes of all fields together that are no files: those are kept in memory."""
OVERHEAD = MAX_TEXT + MAX_PARTS * 8 * 1024
"""Bytes that a body may have beside the content of its files: boundaries, headers and texts."""


class MalformedBodyError(ApplicationError):
    """The body is not what its type says, or cannot be read."""


class TooLargeError(ApplicationError):
    detail = "The request body is too large."


class _Form:
    """The parts that have arrived. Temporary files have no name in their directory, so a killed process leaves none;
    `close` gives their space back."""

    def __init__(self) -> None:
        self.fields: dict[str, list[UploadFile | str]] = {}
        self._text = bytearray()
        self._text_size = 0
        self._file: UploadFile | None = None
        self._name = ""
        self._is_kept = True

    async def take(self, event: MultipartSegment | bytes | None) -> None:
        if isinstance(event, MultipartSegment):
            self._begin(event)
        elif event is None:
            await self._end()
        elif self._file:
            await self._file.write(event)
        else:
            self._add_text(event)

    def _begin(self, part: MultipartSegment) -> None:
        self._name = part.name or ""
        self._is_kept = part.filename != ""  # a form whose file was not chosen
        if part.filename:
            self._file = UploadFile(
                part.content_type or "application/octet-stream", part.filename, max_spool_size=IN_MEMORY
            )
            self.fields.setdefault(self._name, []).append(self._file)

    def _add_text(self, text: bytes) -> None:
        self._text += text
        self._text_size += len(text)
        if self._text_size > MAX_TEXT:
            raise TooLargeError

    async def _end(self) -> None:
        if self._file:
            await self._file.seek(0)
        elif self._is_kept:
            self.fields.setdefault(self._name, []).append(self._text.decode())
        self._file = None
        self._text.clear()

    def refuse_several_files(self) -> None:
        for name, values in self.fields.items():
            if len(values) > 1 and any(isinstance(value, UploadFile) for value in values):
                raise InvalidInputError("Send one file only.", field=name)

    def close(self) -> None:
        """At once, without a thread: a task that is being cancelled had better not wait."""
        for value in (value for values in self.fields.values() for value in values):
            if isinstance(value, UploadFile):
                value.file.close()


async def parse_form(chunks: AsyncIterator[bytes], *, boundary: str, max_file_size: int) -> dict[str, Any]:
    """The fields by name, as Litestar has them: a value, or a list of those of the same name.

    Raises MalformedBodyError and TooLargeError, and InvalidInputError for several files of one name. Whatever it
    raises, and when it is cancelled, no file is left.
    """
    form = _Form()
    try:
        await _receive(form, chunks, boundary=boundary, max_file_size=max_file_size)
        form.refuse_several_files()
    except BaseException:
        form.close()
        raise
    return {name: values if len(values) > 1 else values[0] for name, values in form.fields.items()}


async def _receive(form: _Form, chunks: AsyncIterator[bytes], *, boundary: str, max_file_size: int) -> None:
    try:
        with PushMultipartParser(boundary, max_segment_size=max_file_size, max_segment_count=MAX_PARTS) as parser:
            async for chunk in chunks:
                for event in parser.parse(chunk):
                    await form.take(event)
    except ParserLimitReached as error:
        raise TooLargeError from error
    except (MultipartError, UnicodeDecodeError) as error:
        raise MalformedBodyError("The body is not multipart/form-data that can be read.") from error
