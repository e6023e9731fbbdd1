"""What can go wrong, in the words of the domain. `server/errors.py` gives each its HTTP answer."""

from collections.abc import Mapping
from typing import Any, ClassVar


class ApplicationError(Exception):
    """Root of every error that a caller caused or that we can name.

    `detail` is written for the person who reads the response: no SQL, no secrets.
    """

    detail = "The request could not be fulfilled."
    keeps_writes: ClassVar[bool] = False
    """True: what the unit of work wrote before refusing is committed (failed sign-ins, reused tokens)."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or self.detail)
        self.detail = str(self)


class NotFoundError(ApplicationError):
    """It does not exist, or it is not the caller's to see: the two must look the same."""

    detail = "There is no such resource."


class ConflictError(ApplicationError):
    """The request contradicts what is stored."""

    detail = "The request conflicts with the current state of the resource."


class InvalidInputError(ApplicationError):
    """A value was well-formed but cannot be accepted."""

    detail = "The request contains invalid values."

    def __init__(self, message: str, *, field: str) -> None:
        super().__init__()
        self.field = field
        self.message = message


class NotAuthenticatedError(ApplicationError):
    """Nobody is signed in, or the token is not (any longer) good."""

    detail = "Sign in to continue."


class PermissionDeniedError(ApplicationError):
    """The caller is known and may not do this. `permission` is what they lack, `attributes` those of the object that
    the decision depended on: both for the audit log."""

    detail = "You are not allowed to do this."

    def __init__(
        self,
        detail: str | None = None,
        *,
        permission: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.permission = permission
        self.attributes = attributes


class ReauthenticationRequiredError(PermissionDeniedError):
    """The caller is known and may do this, but not with a session that was signed in long ago."""

    detail = "Prove again who you are: POST to auth/reauthentication."


class CsrfFailedError(PermissionDeniedError):
    """A browser sent our cookies, and nothing shows that a page of ours meant it to."""

    detail = "This request did not come from a page that may use your cookies."


class ScopeRequiredError(PermissionDeniedError):
    """An API key was used for what it was not made for. `scope`: which it lacks; None where no API key is accepted."""

    def __init__(self, scope: str | None) -> None:
        super().__init__(f"This API key lacks the scope {scope}." if scope else "API keys are not accepted here.")
        self.scope = scope


class TooManyRequestsError(ApplicationError):
    """This caller has used up what the route allows in a period."""

    detail = "Too many requests. Try again later."

    def __init__(self, *, retry_after: int) -> None:
        super().__init__()
        self.retry_after = retry_after
        """Whole seconds."""


class OverloadedError(ApplicationError):
    """The process protects itself; the same request will succeed a little later."""

    detail = "The server is busy. Try again shortly."

    def __init__(self, detail: str | None = None, *, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after
        """Whole seconds."""
