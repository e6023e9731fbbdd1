from app.lib.errors import ConflictError


class RoleExistsError(ConflictError):
    detail = "There is a role of this name."


class ProtectedRoleError(ConflictError):
    detail = "This role is always there."


class EverybodysRoleError(ConflictError):
    detail = "Everybody has this role."


class RoleCircleError(ConflictError):
    detail = "A role cannot inherit from itself, nor from one that inherits from it."


class TooDeepRolesError(ConflictError):
    detail = "Roles inherit from each other over at most 10 levels."
