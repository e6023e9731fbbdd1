"""The request as handlers see it: a JSON body is decoded strictly or refused."""

from typing import Any

from litestar import Request
from litestar.exceptions import SerializationException

from app.lib.errors import ApplicationError


class UnsupportedMediaTypeError(ApplicationError):
    detail = "Send the body as application/json."


class MalformedBodyError(ApplicationError):
    """The body is not JSON that can be read."""


class SlowRequestError(ApplicationError):
    detail = "The request took too long to arrive."


class StrictRequest(Request[Any, Any, Any]):
    """Litestar alone reads JSON from any content type, which lets a foreign page post without a CORS
    preflight, and answers 500 to invalid UTF-8 and to deep nesting."""

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
