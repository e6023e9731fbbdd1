"""The request as handlers see it: a body is decoded strictly and within limits, or refused."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

from litestar import Request
from litestar.datastructures import FormMultiDict
from litestar.enums import RequestEncodingType
from litestar.exceptions import SerializationException
from litestar.params import BodyKwarg
from litestar.types import Empty

from app.lib.admission import Gate
from app.lib.errors import ApplicationError
from app.server.forms import OVERHEAD, MalformedBodyError, TooLargeError, parse_form

RECEPTIONS = 32
RECEPTIONS_OF_ONE = 4
"""Forms that are being received at once."""
RECEPTION_QUEUE = 100
RECEPTION_PATIENCE = 5.0


class Receptions:
    """A place for each form that a process receives at once, and no more than a few for one account. Whoever waits
    has not been read yet. It belongs to one event loop, as its gates do."""

    def __init__(self) -> None:
        self._all = Gate(width=RECEPTIONS, queue=RECEPTION_QUEUE, patience=RECEPTION_PATIENCE)
        self._of_one: WeakValueDictionary[Any, Gate] = WeakValueDictionary()

    @asynccontextmanager
    async def place_of(self, account: UUID | str) -> AsyncIterator[None]:
        """Raises OverloadedError."""
        gate = self._of_one.get(account) or Gate(
            width=RECEPTIONS_OF_ONE, queue=RECEPTION_QUEUE // 5, patience=RECEPTION_PATIENCE
        )
        self._of_one[account] = gate  # which goes with the last who is at it
        async with gate, self._all:
            yield


class UnsupportedMediaTypeError(ApplicationError):
    detail = "Send the body as application/json."


class SlowRequestError(ApplicationError):
    detail = "The request took too long to arrive."


class StrictRequest(Request[Any, Any, Any]):
    """Litestar alone reads JSON from any content type, which lets a foreign page post without a CORS
    preflight, and answers 500 to invalid UTF-8 and to deep nesting. Of forms it holds all text in memory."""

    async def json(self) -> Any:
        """Raises UnsupportedMediaTypeError unless the body is declared to be JSON; MalformedBodyError."""
        media_type = self.content_type[0]
        if media_type != "application/json" and not media_type.endswith("+json"):
            raise UnsupportedMediaTypeError
        try:
            return await super().json()
        except UnicodeDecodeError as error:
            raise MalformedBodyError("The body is not UTF-8.") from error
        except RecursionError as error:
            raise MalformedBodyError("The body is nested too deeply.") from error
        except SerializationException as error:
            raise MalformedBodyError(f"The body cannot be read: {error.__cause__}.") from error

    async def form(self) -> FormMultiDict:
        """Raises UnsupportedMediaTypeError unless the body is declared to be multipart; MalformedBodyError;
        TooLargeError when a file is larger than MAX_UPLOAD_SIZE. Litestar closes the files after the answer."""
        if self._connection_state.form is Empty:
            self._connection_state.form = await self._receive_form()
        return FormMultiDict.from_form_data(self._connection_state.form)

    async def _receive_form(self) -> dict[str, Any]:
        media_type, parameters = self.content_type
        if media_type != RequestEncodingType.MULTI_PART:
            raise UnsupportedMediaTypeError("Send the body as multipart/form-data.")
        max_file_size = self.app.state.settings.max_upload_size
        return await parse_form(
            self._chunks(max_file_size + OVERHEAD),
            boundary=parameters.get("boundary", ""),
            max_file_size=max_file_size,
        )

    async def _chunks(self, limit: int) -> AsyncIterator[bytes]:
        """The body as it arrives. The application's limit on bodies is for those that are held in memory."""
        if (self.content_length or 0) > limit:
            raise TooLargeError
        received, is_complete = 0, False
        while not is_complete:
            message: Any = await self.receive()
            if message["type"] == "http.disconnect":
                raise MalformedBodyError("The body ended too early.")
            body: bytes = message.get("body", b"")
            received += len(body)
            if received > limit:
                raise TooLargeError
            if body:
                yield body
            is_complete = not message.get("more_body", False)


async def receive_form(request: Request[Any, Any, Any]) -> None:
    """Called before a handler, behind its guards: what Litestar finds read already, it does not read itself."""
    data = request.route_handler.parsed_data_field
    asked = data.kwarg_definition if data else None
    if isinstance(asked, BodyKwarg) and asked.media_type == RequestEncodingType.MULTI_PART:
        client = request.client.host if request.client else ""
        async with request.app.state.receptions.place_of(request.user.id if request.user else client):
            await request.form()
