"""audit_events, which are only added

Revises: 0009
Made: 2026-11-25 21:40:00.000000
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

REFUSE = """
CREATE FUNCTION refuse_to_change_audit_events() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    retention integer := NULLIF(current_setting('keel.audit_retention', true), '');
BEGIN
    IF TG_OP = 'DELETE' AND retention >= 1 THEN
        IF OLD.created_at < now() - make_interval(days => retention) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE insufficient_privilege USING MESSAGE = 'audit events are neither changed nor removed';
END
$$
"""
"""The job that removes old events says in its transaction how many days they are kept."""


def upgrade() -> None:
    op.create_table(
        "audit_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("action", sa.String(length=60), nullable=False),
        sa.Column("outcome", sa.String(length=10), nullable=False),
        sa.Column("subject_type", sa.String(length=40), nullable=True),
        sa.Column("subject_id", sa.String(length=200), nullable=True),
        sa.Column("permission", sa.String(length=100), nullable=True),
        sa.Column("attributes", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("details", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("changes", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("actor_id", sa.Uuid(), nullable=True),
        sa.Column("impersonator_id", sa.Uuid(), nullable=True),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    for column, more, condition in (
        ("created_at", ["id"], None),
        ("actor_id", ["created_at", "id"], "actor_id IS NOT NULL"),
        ("subject_type", ["subject_id", "created_at", "id"], "subject_type IS NOT NULL"),
        ("action", ["created_at", "id"], None),
        ("outcome", ["created_at", "id"], "outcome <> 'success'"),
        ("permission", ["created_at", "id"], "permission IS NOT NULL"),
        ("request_id", [], "request_id IS NOT NULL"),
    ):
        op.create_index(
            op.f(f"ix_audit_events_{column}"),
            "audit_events",
            [column, *more],
            unique=False,
            postgresql_where=condition and sa.text(condition),
        )
    op.execute(REFUSE)
    op.execute(
        "CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON audit_events"
        " FOR EACH ROW EXECUTE FUNCTION refuse_to_change_audit_events()"
    )
    op.execute(
        "CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON audit_events"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_to_change_audit_events()"
    )


def downgrade() -> None:
    op.drop_table("audit_events")
    op.execute("DROP FUNCTION refuse_to_change_audit_events()")
