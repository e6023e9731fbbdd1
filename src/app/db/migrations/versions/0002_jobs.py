"""the tables of SAQ's queue, version 3, as SAQ would make them, and one index more

Revises: 0001
Made: 2026-11-25 14:50:00
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE saq_jobs (
            key TEXT PRIMARY KEY,
            lock_key SERIAL NOT NULL,
            job BYTEA NOT NULL,
            queue TEXT NOT NULL,
            status TEXT NOT NULL,
            priority SMALLINT NOT NULL DEFAULT 0,
            group_key TEXT,
            scheduled BIGINT NOT NULL DEFAULT EXTRACT(EPOCH FROM NOW()),
            expire_at BIGINT
        )
    """)
    op.execute("CREATE INDEX saq_jobs_status_queue_group_key_idx ON saq_jobs (status, queue, group_key)")
    op.execute(
        "CREATE INDEX saq_jobs_status_queue_priority_scheduled_idx ON saq_jobs (status, queue, priority, scheduled)"
    )
    op.execute("CREATE INDEX ix_saq_jobs_expire_at ON saq_jobs (expire_at) WHERE expire_at IS NOT NULL")
    op.execute("""
        CREATE TABLE saq_stats (
            worker_id TEXT PRIMARY KEY,
            stats JSONB,
            expire_at BIGINT,
            metadata JSONB,
            queue_key TEXT
        )
    """)
    op.execute("CREATE INDEX saq_stats_expire_at_idx ON saq_stats (expire_at)")
    op.execute("CREATE INDEX saq_stats_queue_key_idx ON saq_stats (queue_key)")
    op.execute("CREATE TABLE saq_versions (version INT)")
    op.execute("INSERT INTO saq_versions (version) VALUES (3)")


def downgrade() -> None:
    op.drop_table("saq_versions")
    op.drop_table("saq_stats")
    op.drop_table("saq_jobs")
