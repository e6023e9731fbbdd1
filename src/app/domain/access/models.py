from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.lib.access.policy import ALLOW
from app.lib.db.models import Model
from app.lib.errors import InvalidInputError


class Permission(StrEnum):
    """Everything that can be granted: `resource:action`. A new feature's are added here, and nowhere else."""

    USERS_READ = "users:read"
    USERS_CREATE = "users:create"
    USERS_UPDATE = "users:update"
    USERS_DELETE = "users:delete"
    ROLES_READ = "roles:read"
    ROLES_CREATE = "roles:create"
    ROLES_UPDATE = "roles:update"
    ROLES_DELETE = "roles:delete"
    POSTS_READ = "posts:read"
    POSTS_CREATE = "posts:create"
    POSTS_UPDATE = "posts:update"
    POSTS_DELETE = "posts:delete"
    AUDIT_READ = "audit:read"
    JOBS_READ = "jobs:read"
    JOBS_UPDATE = "jobs:update"

    @property
    def resource(self) -> str:
        return self.partition(":")[0]

    @property
    def action(self) -> str:
        return self.partition(":")[2]


def permission_of(resource: str, action: str) -> Permission:
    """Raises InvalidInputError."""
    actions = [known.action for known in Permission if known.resource == resource]
    if not actions:
        resources = ", ".join(dict.fromkeys(known.resource for known in Permission))
        raise InvalidInputError(f"There is no such resource. There are: {resources}.", field="resource")
    if action not in actions:
        raise InvalidInputError(f"Of {resource}, there are: {', '.join(actions)}.", field="action")
    return Permission(f"{resource}:{action}")


class Role(Model):
    """A name for what a kind of people may do."""

    __tablename__ = "roles"

    name: Mapped[str] = mapped_column(String(50), unique=True)
    description: Mapped[str] = mapped_column(String(200), default="")
    inherited: Mapped[list["Role"]] = relationship(
        secondary="role_parents",
        primaryjoin="Role.id == RoleParent.role_id",
        secondaryjoin="Role.id == RoleParent.parent_id",
        order_by="Role.name",
        lazy="selectin",
        viewonly=True,
    )

    @property
    def parents(self) -> list[str]:
        """The names of those whose permissions it has, too."""
        return [role.name for role in self.inherited]


class RoleParent(Model):
    """Who has the role also has all permissions of its parent. `created_at` says when, `granted_by` who wanted it."""

    __tablename__ = "role_parents"
    __table_args__ = (
        UniqueConstraint("role_id", "parent_id"),
        CheckConstraint("role_id <> parent_id", name="not_itself"),
        Index(None, "parent_id"),
    )

    role_id: Mapped[UUID] = mapped_column(ForeignKey("roles.id", ondelete="CASCADE"))
    parent_id: Mapped[UUID] = mapped_column(ForeignKey("roles.id", ondelete="CASCADE"))
    granted_by: Mapped[UUID | None] = mapped_column(default=None)


class RoleAssignment(Model):
    """A user has a role."""

    __tablename__ = "role_assignments"
    __table_args__ = (UniqueConstraint("user_id", "role_id"), Index(None, "role_id"))

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    role_id: Mapped[UUID] = mapped_column(ForeignKey("roles.id", ondelete="CASCADE"))
    granted_by: Mapped[UUID | None] = mapped_column(default=None)
    role: Mapped[Role] = relationship(lazy="joined", innerjoin=True, viewonly=True)

    @property
    def name(self) -> str:
        return self.role.name

    @property
    def description(self) -> str:
        return self.role.description


class PermissionGrant(Model):
    """A permission given to (or, with `deny`, withheld from) a role or one user: for all objects or one, always or
    where a rule is met. `granted_by` has no foreign key: the grant outlives who made it, and so does their id."""

    __tablename__ = "permission_grants"
    __table_args__ = (
        CheckConstraint("num_nonnulls(role_id, user_id) = 1", name="one_subject"),
        CheckConstraint("effect IN ('allow', 'deny')", name="effect"),
        Index(
            "uq_permission_grants",
            *("role_id", "user_id", "resource", "action", "object_id", "rule", "effect"),
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
        Index(None, "user_id"),
    )

    role_id: Mapped[UUID | None] = mapped_column(ForeignKey("roles.id", ondelete="CASCADE"), default=None)
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), default=None)
    resource: Mapped[str] = mapped_column(String(50))
    action: Mapped[str] = mapped_column(String(50))
    object_id: Mapped[UUID | None] = mapped_column(default=None)
    rule: Mapped[str | None] = mapped_column(String(500), default=None)
    effect: Mapped[str] = mapped_column(String(5), default=ALLOW)
    granted_by: Mapped[UUID | None] = mapped_column(default=None)


class PolicyVersion(Model):
    """One row, whose number a trigger raises with every change of the four tables above, also of one made in SQL."""

    __tablename__ = "policy_versions"

    number: Mapped[int] = mapped_column(BigInteger)
