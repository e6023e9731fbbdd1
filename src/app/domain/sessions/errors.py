from app.lib.errors import NotAuthenticatedError


class InvalidRefreshTokenError(NotAuthenticatedError):
    """Unknown, expired, or of a session that has ended."""

    detail = "This refresh token is not valid. Sign in again."


class RefreshTokenReusedError(InvalidRefreshTokenError):
    """A token came a second time: somebody has a copy, so the whole session ends (RFC 9700 section 4.14.2)."""

    keeps_writes = True
