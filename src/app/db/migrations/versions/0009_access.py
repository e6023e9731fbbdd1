"""roles, who holds them, permissions, and the version of all that

Revises: 0008
Made: 2026-11-25 21:30:00.000000
"""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op
from uuid_utils.compat import uuid7

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

POLICY_TABLES = ("roles", "role_parents", "role_assignments", "permission_grants")
ROLES = {
    "admin": "Manages accounts, roles and jobs, and reads the audit log.",
    "editor": "Writes posts, and changes everybody's.",
    "viewer": "Reads published posts.",
    "everyone": "Held by everybody who is signed in.",
}
PARENTS = [("admin", "editor"), ("editor", "viewer")]
OWN = "r.obj.owner_id == r.sub.id"
GRANTS = [
    *[("admin", "users", action, None) for action in ("read", "create", "update", "delete")],
    *[("admin", "roles", action, None) for action in ("read", "create", "update", "delete")],
    ("admin", "audit", "read", None),
    ("admin", "jobs", "read", None),
    ("admin", "jobs", "update", None),
    *[("editor", "posts", action, None) for action in ("read", "create", "update", "delete")],
    ("viewer", "posts", "read", f"r.obj.published or {OWN}"),
    ("everyone", "posts", "update", OWN),
    ("everyone", "posts", "delete", OWN),
]
TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    **dict.fromkeys(("id", "role_id", "parent_id"), sa.Uuid()),
    **dict.fromkeys(("created_at", "updated_at"), sa.DateTime(timezone=True)),
    "number": sa.BigInteger(),
}
RAISE_VERSION = """
CREATE FUNCTION policy_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'TRUNCATE' THEN
        IF NOT EXISTS (SELECT FROM changed) THEN
            RETURN NULL;
        END IF;
    END IF;
    UPDATE policy_versions SET number = number + 1, updated_at = now();
    PERFORM pg_notify('keel', 'policy:changed');
    RETURN NULL;
END $$
"""
"""A statement that changed nothing raises nothing: each deletion of a user cascades to the roles they do not have."""


def upgrade() -> None:
    op.create_table(
        "roles",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=50), nullable=False),
        sa.Column("description", sa.String(length=200), nullable=False),
        *times(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_roles")),
        sa.UniqueConstraint("name", name=op.f("uq_roles_name")),
    )
    op.create_table(
        "role_parents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("role_id", sa.Uuid(), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=False),
        sa.Column("granted_by", sa.Uuid(), nullable=True),
        *times(),
        sa.CheckConstraint("role_id <> parent_id", name=op.f("ck_role_parents_not_itself")),
        sa.ForeignKeyConstraint(
            ["role_id"], ["roles.id"], name=op.f("fk_role_parents_role_id_roles"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["parent_id"], ["roles.id"], name=op.f("fk_role_parents_parent_id_roles"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role_parents")),
        sa.UniqueConstraint("role_id", "parent_id", name=op.f("uq_role_parents_role_id")),
    )
    op.create_index(op.f("ix_role_parents_parent_id"), "role_parents", ["parent_id"])
    op.create_table(
        "role_assignments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("role_id", sa.Uuid(), nullable=False),
        sa.Column("granted_by", sa.Uuid(), nullable=True),
        *times(),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_role_assignments_user_id_users"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["role_id"], ["roles.id"], name=op.f("fk_role_assignments_role_id_roles"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role_assignments")),
        sa.UniqueConstraint("user_id", "role_id", name=op.f("uq_role_assignments_user_id")),
    )
    op.create_index(op.f("ix_role_assignments_role_id"), "role_assignments", ["role_id"])
    op.create_table(
        "permission_grants",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("role_id", sa.Uuid(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=True),
        sa.Column("resource", sa.String(length=50), nullable=False),
        sa.Column("action", sa.String(length=50), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=True),
        sa.Column("rule", sa.String(length=500), nullable=True),
        sa.Column("effect", sa.String(length=5), nullable=False),
        sa.Column("granted_by", sa.Uuid(), nullable=True),
        *times(),
        sa.CheckConstraint("num_nonnulls(role_id, user_id) = 1", name=op.f("ck_permission_grants_one_subject")),
        sa.CheckConstraint("effect IN ('allow', 'deny')", name=op.f("ck_permission_grants_effect")),
        sa.ForeignKeyConstraint(
            ["role_id"], ["roles.id"], name=op.f("fk_permission_grants_role_id_roles"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_permission_grants_user_id_users"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_permission_grants")),
    )
    op.create_index(
        "uq_permission_grants",
        "permission_grants",
        ["role_id", "user_id", "resource", "action", "object_id", "rule", "effect"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.create_index(op.f("ix_permission_grants_user_id"), "permission_grants", ["user_id"])
    op.create_table(
        "policy_versions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        *times(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_versions")),
    )
    predefine()
    op.execute(RAISE_VERSION)
    for table in POLICY_TABLES:
        for act, rows in {"INSERT": "NEW", "UPDATE": "NEW", "DELETE": "OLD"}.items():
            op.execute(
                f"CREATE TRIGGER policy_{act.lower()} AFTER {act} ON {table} "
                f"REFERENCING {rows} TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION policy_changed()"
            )
        op.execute(f"CREATE TRIGGER policy_truncate AFTER TRUNCATE ON {table} EXECUTE FUNCTION policy_changed()")


def predefine() -> None:
    """Administrators may change all of this; nothing here is made again later."""
    ids = {name: uuid7() for name in ROLES}
    insert("policy_versions", [{"number": 1}])
    insert("roles", [{"id": ids[name], "name": name, "description": text} for name, text in ROLES.items()])
    insert("role_parents", [{"role_id": ids[name], "parent_id": ids[parent]} for name, parent in PARENTS])
    insert(
        "permission_grants",
        [
            {"role_id": ids[role], "resource": resource, "action": action, "rule": rule, "effect": "allow"}
            for role, resource, action, rule in GRANTS
        ],
    )


def insert(name: str, rows: list[dict[str, Any]]) -> None:
    now = datetime.now(UTC)
    complete = [{"id": uuid7(), "created_at": now, "updated_at": now, **row} for row in rows]
    op.bulk_insert(
        sa.table(name, *[sa.column(column, TYPES.get(column, sa.String())) for column in complete[0]]), complete
    )


def times() -> list[sa.Column[datetime]]:
    return [sa.Column(name, sa.DateTime(timezone=True), nullable=False) for name in ("created_at", "updated_at")]


def downgrade() -> None:
    for table in ("policy_versions", *reversed(POLICY_TABLES)):
        op.drop_table(table)
    op.execute("DROP FUNCTION policy_changed()")
