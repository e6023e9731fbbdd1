"""Every controller of the features, gathered for the application."""

from app.domain.access.controllers import ExplanationController, MyPermissionController
from app.domain.accounts.controllers import (
    ConfirmationController,
    MeController,
    UserAccessController,
    UserController,
)
from app.domain.api_keys.controllers import ApiKeyController
from app.domain.audit.controllers import AuditController
from app.domain.files.controllers import AvatarController, FileController, MyAvatarController
from app.domain.grants.controllers import RolePermissionController, UserPermissionController
from app.domain.identities.controllers import MyIdentityController, ProviderController
from app.domain.items.controllers import ItemController
from app.domain.jobs.controllers import JobController, JobDashboardController
from app.domain.posts.controllers import PostController
from app.domain.registrations.controllers import RegistrationController
from app.domain.roles.controllers import RoleController, UserRoleController
from app.domain.sessions.controllers import AuthController, CookieController, MySessionController
from app.domain.totp.controllers import MyTotpController

CONTROLLERS = [
    RegistrationController,
    ConfirmationController,
    AuthController,
    ProviderController,
    MyIdentityController,
    CookieController,
    MySessionController,
    MeController,
    MyTotpController,
    ApiKeyController,
    UserController,
    UserAccessController,
    RoleController,
    RolePermissionController,
    UserRoleController,
    UserPermissionController,
    MyPermissionController,
    ExplanationController,
    ItemController,
    PostController,
    JobController,
    JobDashboardController,
    AuditController,
    FileController,
    MyAvatarController,
    AvatarController,
]
"""A new feature's controllers are added here, and nowhere else."""
