from app.lib.errors import ConflictError


class TooManyApiKeysError(ConflictError):
    """One account has as many as it may."""

    detail = "You have as many API keys as an account may have: revoke one first."
