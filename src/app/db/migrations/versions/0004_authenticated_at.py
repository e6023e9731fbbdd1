"""when a session was last proved

Revises: 0003
Made: 2026-11-25 18:00:00.000000
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("authenticated_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE sessions SET authenticated_at = created_at")
    op.alter_column("sessions", "authenticated_at", nullable=False)


def downgrade() -> None:
    op.drop_column("sessions", "authenticated_at")
