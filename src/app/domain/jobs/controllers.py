from typing import Annotated, Any

from litestar import Controller
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.status_codes import HTTP_200_OK
from sqlalchemy.orm import Session

from app.domain.access.models import Permission
from app.domain.jobs.schemas import JobRead, JobSort, JobStatus
from app.domain.jobs.services import abort_job, describe_job, describe_queue, get_job, page_of_jobs, retry_job
from app.lib.access.guards import requires
from app.lib.pagination import Page, PageQuery
from app.lib.routing import get, post

MAY_READ = [requires(Permission.JOBS_READ)]
MAY_UPDATE = [requires(Permission.JOBS_UPDATE)]


class JobController(Controller):
    path = "/jobs"
    tags = ["jobs"]
    opt = {"scope": "jobs"}

    @get(guards=MAY_READ)
    def list_jobs(
        self,
        session: Session,
        page: PageQuery,
        status: Annotated[JobStatus | None, QueryParameter(description="Only those in this state.")] = None,
        sort: FromQuery[JobSort] = "-scheduled",
    ) -> Page[JobRead]:
        """List jobs: those that wait, run, or have ended.

        `failed` are those whose last attempt failed. They are kept for 30 days, complete ones for one day.
        """
        return page_of_jobs(session, status=status, page=page, sort=sort)

    @post("/{key:str}/retry", guards=MAY_UPDATE, status_code=HTTP_200_OK, scope="jobs:update")
    def retry_job(self, key: FromPath[str], session: Session) -> JobRead:
        """Run a job that has failed for good again, from its first attempt.

        Any other is a conflict (409, `job_not_dead`).
        """
        return JobRead.of(retry_job(session, key))


class JobDashboardController(Controller):
    """What the page of `server/dashboard.py` asks for, which is SAQ's."""

    path = "/jobs/dashboard/api/queues"
    include_in_schema = False

    @get(guards=MAY_READ)
    def list_queues(self, session: Session) -> dict[str, Any]:
        """List the only queue."""
        return {"queues": [describe_queue(session, with_jobs=False)]}

    @get("/{queue:str}", guards=MAY_READ)
    def get_queue(self, session: Session) -> dict[str, Any]:
        """Show the queue, whatever name it is asked for by."""
        return {"queue": describe_queue(session, with_jobs=True)}

    @get("/{queue:str}/jobs/{key:str}", guards=MAY_READ)
    def get_queued_job(self, key: FromPath[str], session: Session) -> dict[str, Any]:
        """Show a job."""
        return {"job": describe_job(get_job(session, key))}

    @post("/{queue:str}/jobs/{key:str}/retry", guards=MAY_UPDATE, status_code=HTTP_200_OK)
    def retry_queued_job(self, key: FromPath[str], session: Session) -> dict[str, Any]:
        """Run a dead job again."""
        return {"job": describe_job(retry_job(session, key))}

    @post("/{queue:str}/jobs/{key:str}/abort", guards=MAY_UPDATE, status_code=HTTP_200_OK)
    def abort_queued_job(self, key: FromPath[str], session: Session) -> dict[str, Any]:
        """Call off a job that waits or runs."""
        return {"job": describe_job(abort_job(session, key))}
