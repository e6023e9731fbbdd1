from app.lib.errors import ConflictError


class GrantExistsError(ConflictError):
    detail = "This permission has been given already."
