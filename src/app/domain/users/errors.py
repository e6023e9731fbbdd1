from app.lib.errors import ConflictError, InvalidInputError, NotAuthenticatedError


class InvalidCredentialsError(NotAuthenticatedError):
    """Unknown address, wrong password or code, deactivated or unverified account: the caller must not learn which."""

    detail = "The e-mail address or the password is wrong."
    keeps_writes = True


class WrongPasswordError(InvalidInputError):
    """Somebody who is signed in could not repeat their password. The answer is no 401: their session is still good."""

    keeps_writes = True


class EmailTakenError(ConflictError):
    """Told to administrators only: anybody else must not learn who has an account."""

    detail = "Another account has this address."


class LastAdministratorError(ConflictError):
    detail = "This is the last administrator. Make another one first."
