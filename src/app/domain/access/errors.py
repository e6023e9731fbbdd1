from app.lib.errors import PermissionDeniedError


class NotHeldError(PermissionDeniedError):
    """Otherwise whoever may manage roles could have everything."""

    detail = "You can neither give nor take what you do not hold yourself, always and everywhere."


class OwnRightsError(PermissionDeniedError):
    detail = "Your own rights are changed by somebody else."


class OutrankedError(PermissionDeniedError):
    """Whoever can change an account can become it."""

    detail = "This account may do more than you."
