from app.lib.errors import ApplicationError, ConflictError, NotAuthenticatedError


class InvalidStateError(ApplicationError):
    """Unknown, used, expired, of another provider or of another browser: nobody learns which."""

    detail = "This sign-in was not begun in this browser, or is over. Begin again."


class InvalidSignInCodeError(NotAuthenticatedError):
    """Unknown, used, expired, tried too often or of another browser. The try is counted."""

    detail = "This code is not valid. Sign in again."
    keeps_writes = True


class EmailNotVerifiedError(ApplicationError):
    """The provider does not vouch for an address, so nobody here is this person, and nobody can become it."""

    detail = "The provider does not say that your e-mail address is verified."


class IdentityTakenError(ConflictError):
    detail = "This identity belongs to another account."


class LastSignInMethodError(ConflictError):
    """Without it, nobody could sign in to the account."""

    detail = "This is the only way to sign in to your account: set a password or link another provider first."
