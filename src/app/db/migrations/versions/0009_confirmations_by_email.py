"""confirmations by email

Revises: 0008
Made: 2026-11-25 19:35:00.000000
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(op.f("ix_confirmations_email"), "confirmations", ["email", "purpose"], unique=False)
    op.drop_index("ix_confirmations_undo", table_name="confirmations", postgresql_where="purpose = 'email_undo'")


def downgrade() -> None:
    op.create_index(
        "ix_confirmations_undo", "confirmations", ["email"], unique=False, postgresql_where="purpose = 'email_undo'"
    )
    op.drop_index(op.f("ix_confirmations_email"), table_name="confirmations")
