from app.lib.errors import ConflictError, InvalidInputError, NotAuthenticatedError


class TotpRequiredError(NotAuthenticatedError):
    """The password is right, and the account wants a code as well."""

    detail = "This account asks for a code of its authenticator app, or a recovery code, as well."


class WrongCodeError(InvalidInputError):
    """Neither a code of now that has not been used, nor a recovery code that is left."""

    keeps_writes = True

    def __init__(self) -> None:
        super().__init__("This code is wrong, or has been used.", field="totp")


class TotpAlreadyEnabledError(ConflictError):
    detail = "Two-factor authentication is enabled already: disable it first."
