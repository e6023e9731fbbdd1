"""Every table of the application, gathered for Alembic."""

from pathlib import Path

from app.domain.access import models as access
from app.domain.accounts import models as accounts
from app.domain.api_keys import models as api_keys
from app.domain.audit import models as audit
from app.domain.confirmations import models as confirmations
from app.domain.files import models as files
from app.domain.identities import models as identities
from app.domain.items import models as items
from app.domain.posts import models as posts
from app.domain.sessions import models as sessions
from app.domain.throttles import models as throttles
from app.domain.totp import models as totp
from app.domain.users import models as users
from app.lib.db.models import Model
from app.lib.jobs.broker import saq_jobs, saq_stats, saq_versions

MODULES = (
    *(access, accounts, api_keys, audit, confirmations, files, identities, items, posts, sessions, throttles),
    *(totp, users),
)
"""A new feature's models module is added here, and nowhere else."""

QUEUE_TABLES = (saq_jobs, saq_stats, saq_versions)
"""SAQ's; the migrations make them, so that a job can be enqueued before there is a worker."""

METADATA = Model.metadata
MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "alembic_version"
