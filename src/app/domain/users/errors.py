from app.lib.errors import NotAuthenticatedError


class InvalidCredentialsError(NotAuthenticatedError):
    """Unknown address, wrong password, deactivated or unverified account: the caller must not learn which."""

    detail = "The e-mail address or the password is wrong."
