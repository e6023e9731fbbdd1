"""Every error as `application/problem+json` (RFC 9457). The one table from the domain's words to HTTP."""

import logging
from http import HTTPStatus
from typing import Any, NamedTuple

import psycopg
from advanced_alchemy.exceptions import NotFoundError as RowNotFoundError
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from msgspec import UNSET, UnsetType
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError

from app.domain.access.errors import NotHeldError, OutrankedError, OwnRightsError
from app.domain.api_keys.errors import TooManyApiKeysError
from app.domain.grants.errors import GrantExistsError
from app.domain.identities.errors import (
    EmailNotVerifiedError,
    IdentityTakenError,
    InvalidSignInCodeError,
    InvalidStateError,
    LastSignInMethodError,
)
from app.domain.jobs.errors import JobNotDeadError
from app.domain.registrations.errors import AddressReservedError
from app.domain.roles.errors import (
    EverybodysRoleError,
    ProtectedRoleError,
    RoleCircleError,
    RoleExistsError,
    TooDeepRolesError,
)
from app.domain.sessions.errors import InvalidRefreshTokenError, RefreshTokenReusedError
from app.domain.totp.errors import TotpAlreadyEnabledError, TotpRequiredError, WrongCodeError
from app.domain.users.errors import (
    EmailTakenError,
    InvalidCredentialsError,
    LastAdministratorError,
    WrongPasswordError,
)
from app.lib.downloads import UnsatisfiableRangeError
from app.lib.errors import (
    ApplicationError,
    ConflictError,
    CsrfFailedError,
    InvalidInputError,
    NotAuthenticatedError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ReauthenticationRequiredError,
    ScopeRequiredError,
    TooManyRequestsError,
)
from app.lib.link_tokens import InvalidTokenError
from app.lib.outgoing import ProviderUnavailableError
from app.lib.problems import MEDIA_TYPE, InvalidValue, Problem
from app.lib.social.person import SignInRefusedError
from app.lib.storage import ForeignStorageError, StorageUnavailableError
from app.server.forms import MalformedBodyError, TooLargeError
from app.server.request import SlowRequestError, UnsupportedMediaTypeError

logger = logging.getLogger(__name__)


class Answer(NamedTuple):
    status: HTTPStatus
    code: str
    headers: dict[str, str] = {}


ANSWERS: dict[type[ApplicationError], Answer] = {
    ApplicationError: Answer(HTTPStatus.BAD_REQUEST, "bad_request"),
    InvalidInputError: Answer(HTTPStatus.BAD_REQUEST, "invalid_input"),
    NotAuthenticatedError: Answer(HTTPStatus.UNAUTHORIZED, "not_authenticated", {"WWW-Authenticate": "Bearer"}),
    WrongPasswordError: Answer(HTTPStatus.BAD_REQUEST, "wrong_password"),
    InvalidCredentialsError: Answer(HTTPStatus.UNAUTHORIZED, "invalid_credentials"),
    TotpRequiredError: Answer(HTTPStatus.UNAUTHORIZED, "totp_required"),
    WrongCodeError: Answer(HTTPStatus.BAD_REQUEST, "wrong_code"),
    InvalidRefreshTokenError: Answer(HTTPStatus.UNAUTHORIZED, "invalid_refresh_token"),
    RefreshTokenReusedError: Answer(HTTPStatus.UNAUTHORIZED, "invalid_refresh_token"),
    InvalidTokenError: Answer(HTTPStatus.BAD_REQUEST, "invalid_token"),
    InvalidStateError: Answer(HTTPStatus.BAD_REQUEST, "invalid_state"),
    InvalidSignInCodeError: Answer(HTTPStatus.UNAUTHORIZED, "invalid_code"),
    EmailNotVerifiedError: Answer(HTTPStatus.FORBIDDEN, "email_not_verified"),
    IdentityTakenError: Answer(HTTPStatus.CONFLICT, "identity_taken"),
    LastSignInMethodError: Answer(HTTPStatus.CONFLICT, "last_sign_in_method"),
    SignInRefusedError: Answer(HTTPStatus.FORBIDDEN, "sign_in_refused"),
    ProviderUnavailableError: Answer(HTTPStatus.BAD_GATEWAY, "provider_unavailable"),
    MalformedBodyError: Answer(HTTPStatus.BAD_REQUEST, "malformed_body"),
    TooLargeError: Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large"),
    UnsatisfiableRangeError: Answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "unsatisfiable_range"),
    UnsupportedMediaTypeError: Answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
    SlowRequestError: Answer(HTTPStatus.REQUEST_TIMEOUT, "slow_request"),
    PermissionDeniedError: Answer(HTTPStatus.FORBIDDEN, "permission_denied"),
    NotHeldError: Answer(HTTPStatus.FORBIDDEN, "not_held"),
    OwnRightsError: Answer(HTTPStatus.FORBIDDEN, "own_rights"),
    OutrankedError: Answer(HTTPStatus.FORBIDDEN, "outranked"),
    ReauthenticationRequiredError: Answer(HTTPStatus.FORBIDDEN, "reauthentication_required"),
    CsrfFailedError: Answer(HTTPStatus.FORBIDDEN, "csrf_failed"),
    ScopeRequiredError: Answer(
        HTTPStatus.FORBIDDEN, "scope_required", {"WWW-Authenticate": 'Bearer error="insufficient_scope"'}
    ),
    NotFoundError: Answer(HTTPStatus.NOT_FOUND, "not_found"),
    ConflictError: Answer(HTTPStatus.CONFLICT, "conflict"),
    TotpAlreadyEnabledError: Answer(HTTPStatus.CONFLICT, "totp_already_enabled"),
    EmailTakenError: Answer(HTTPStatus.CONFLICT, "email_taken"),
    AddressReservedError: Answer(HTTPStatus.CONFLICT, "address_reserved"),
    LastAdministratorError: Answer(HTTPStatus.CONFLICT, "last_administrator"),
    RoleExistsError: Answer(HTTPStatus.CONFLICT, "role_exists"),
    ProtectedRoleError: Answer(HTTPStatus.CONFLICT, "protected_role"),
    EverybodysRoleError: Answer(HTTPStatus.CONFLICT, "everybodys_role"),
    RoleCircleError: Answer(HTTPStatus.CONFLICT, "role_circle"),
    TooDeepRolesError: Answer(HTTPStatus.CONFLICT, "too_deep_roles"),
    GrantExistsError: Answer(HTTPStatus.CONFLICT, "permission_exists"),
    TooManyApiKeysError: Answer(HTTPStatus.CONFLICT, "too_many_api_keys"),
    JobNotDeadError: Answer(HTTPStatus.CONFLICT, "job_not_dead"),
    TooManyRequestsError: Answer(HTTPStatus.TOO_MANY_REQUESTS, "too_many_requests"),
    OverloadedError: Answer(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded"),
    StorageUnavailableError: Answer(HTTPStatus.SERVICE_UNAVAILABLE, "storage_unavailable"),
    ForeignStorageError: Answer(HTTPStatus.SERVICE_UNAVAILABLE, "storage_unavailable"),
}
"""A class that is not here answers like its parent; a test sees to it that none of ours is missing."""

HTTP_CODES = {
    HTTPStatus.BAD_REQUEST: ("bad_request", "The request could not be understood."),
    HTTPStatus.UNAUTHORIZED: ("not_authenticated", NotAuthenticatedError.detail),
    HTTPStatus.FORBIDDEN: ("permission_denied", PermissionDeniedError.detail),
    HTTPStatus.NOT_FOUND: ("not_found", NotFoundError.detail),
    HTTPStatus.METHOD_NOT_ALLOWED: ("method_not_allowed", "This path does not answer that method."),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("too_large", "The request body is too large."),
}
"""What the framework refuses. Its own texts repeat the query string, so they are not passed on."""

CONFLICTS = (
    psycopg.errors.UniqueViolation,
    psycopg.errors.ForeignKeyViolation,
    psycopg.errors.ExclusionViolation,
)
"""What callers can cause. A NOT NULL or CHECK that fails is a schema of ours that let it through."""
GAVE_UP = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.QueryCanceled,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
)
"""Waited too long, or lost twice in a row to other transactions."""
CLIENT_LEFT = "client disconnected prematurely"
"""Litestar's words for a body that ended too early. Nobody reads the answer, and it is no fault of ours."""


def answer_error(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """The exception handler of the whole application."""
    if isinstance(error, HTTPException):
        return _framework_error(request, error)
    known = _in_our_words(error)
    if known is None:
        return _unexpected_error(request, error)
    answer = next(ANSWERS[kind] for kind in type(known).__mro__ if kind in ANSWERS)
    headers = dict(answer.headers)
    if isinstance(known, PermissionDeniedError):
        request.app.state.denials.note(known, reason=answer.code)
    if isinstance(known, OverloadedError | TooManyRequestsError):
        headers["Retry-After"] = str(known.retry_after)
    if isinstance(known, UnsatisfiableRangeError):
        headers["Content-Range"] = f"bytes */{known.size}"
    errors: list[InvalidValue] | UnsetType = UNSET
    if isinstance(known, InvalidInputError):
        source = "query" if request.method == "GET" else "body"
        errors = [InvalidValue(known.field, known.message, source)]
    return _problem(request, answer.status, answer.code, detail=known.detail, headers=headers, errors=errors)


def _in_our_words(error: Exception) -> ApplicationError | None:
    """Errors of the libraries below us, as the domain would have said them; None: nobody foresaw this."""
    match error:
        case ApplicationError():
            return error
        case RowNotFoundError() | StaleDataError():  # the second: it went while we were changing it
            return NotFoundError()
        case IntegrityError() if isinstance(error.orig, CONFLICTS):
            return ConflictError()
        case DataError():
            logger.warning("value refused by the database: %s", type(error.orig).__name__)
            return ApplicationError("A value cannot be stored.")
        case PoolTimeoutError():
            return OverloadedError()
        case DBAPIError() if isinstance(error.orig, GAVE_UP):
            logger.warning("database gave up: %s", type(error.orig).__name__)
            return OverloadedError()
        case DBAPIError() if _is_unavailable(error):
            logger.warning("database unavailable: %s", type(error.orig).__name__)
            return OverloadedError("The database does not answer. Try again shortly.", retry_after=2)
    return None


def _is_unavailable(error: DBAPIError) -> bool:
    """Gone, restarting, or out of connections: not the fault of the request."""
    return error.connection_invalidated or isinstance(error.orig, psycopg.OperationalError)


def _framework_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    status = HTTPStatus(error.status_code)
    if error.detail == CLIENT_LEFT:
        status = HTTPStatus.BAD_REQUEST
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unexpected_error(request, error)
    code, detail = HTTP_CODES.get(status, (status.name.lower(), status.phrase))
    errors: list[InvalidValue] | UnsetType = UNSET
    if isinstance(error, ValidationException):
        code, detail = "invalid_input", InvalidInputError.detail
        errors = [_invalid_value(entry) for entry in error.extra or ()]
    return _problem(request, status, code, detail=detail, headers=error.headers or {}, errors=errors)


def _invalid_value(entry: Any) -> InvalidValue:
    return InvalidValue(
        field=str(entry.get("key", "")),
        message=str(entry.get("message", "Invalid value.")),
        source=str(getattr(entry.get("source"), "value", entry.get("source") or "body")),
    )


def _unexpected_error(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    logger.error("unexpected error", exc_info=error)
    settings = request.app.state.settings
    detail = "Something went wrong on our side."
    if settings.debug or settings.app_env == "development":
        detail = f"{type(error).__name__}: {error}"
    return _problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", detail=detail)


def _problem(
    request: Request[Any, Any, Any],
    status: HTTPStatus,
    code: str,
    *,
    detail: str,
    headers: dict[str, str] | None = None,
    errors: list[InvalidValue] | UnsetType = UNSET,
) -> Response[Problem]:
    if metrics := request.app.state.get("metrics"):
        metrics.note_problem(code)
    body = Problem.of(status, code, detail=detail, request_id=str(request.scope.get("request_id", "")))
    body.errors = errors
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)
