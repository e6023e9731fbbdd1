from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.domain.sessions.jobs import remove_ended_sessions
from app.lib.jobs.broker import enqueue
from tests.conftest import SignedIn
from tests.inline_jobs import InlineJobs

pytestmark = pytest.mark.integration
AsUser = Callable[..., SignedIn]
DASHBOARD = "/jobs/dashboard/api/queues"


@pytest.fixture
def admin(as_user: AsUser) -> SignedIn:
    return as_user(is_superuser=True)


def store(session: Session, *keys: str, status: str = "queued") -> None:
    for number, key in enumerate(keys, start=1):
        enqueue(session, remove_ended_sessions, key=key, after=timedelta(minutes=number))
        session.execute(
            text(
                "UPDATE saq_jobs SET status = :status, job = convert_to((convert_from(job, 'UTF8')::jsonb || "
                "jsonb_build_object('status', CAST(:status AS text), 'attempts', 5, 'error', 'no'))::text, 'UTF8') "
                "WHERE key = :key"
            ),
            {"status": status, "key": key},
        )
    session.commit()


def keys(answer: Any) -> list[str]:
    return [item["key"] for item in answer.json()["items"]]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/jobs"),
        ("POST", "/jobs/one/retry"),
        ("GET", DASHBOARD),
        ("GET", f"{DASHBOARD}/default"),
        ("GET", f"{DASHBOARD}/default/jobs/one"),
        ("POST", f"{DASHBOARD}/default/jobs/one/retry"),
        ("POST", f"{DASHBOARD}/default/jobs/one/abort"),
    ],
)
def test_jobs_are_for_administrators(method: str, path: str, as_user: AsUser, session: Session) -> None:
    store(session, "one", status="failed")
    ada = as_user()

    assert ada.request(method, path).status_code == 403
    assert ada.client.request(method, f"/api/v1{path}").status_code == 401


def test_a_job_is_shown_with_what_became_of_it(admin: SignedIn, session: Session) -> None:
    store(session, "one", status="failed")

    [shown] = admin.get("/jobs").json()["items"]

    assert (shown["key"], shown["name"], shown["status"]) == ("one", "sessions.remove_ended_sessions", "failed")
    assert (shown["attempts"], shown["retries"], shown["error"]) == (5, 5, "no")
    assert shown["scheduled"] > shown["queued"]
    assert (shown["started"], shown["arguments"]) == (None, {})


def test_jobs_are_listed_in_pages_by_state_by_text_and_in_order(admin: SignedIn, session: Session) -> None:
    store(session, "one", "two", "three")
    store(session, "dead", status="failed")

    assert keys(admin.get("/jobs?sort=scheduled&status=queued&limit=2")) == ["one", "two"]
    assert keys(admin.get("/jobs?sort=scheduled&status=queued&limit=2&offset=2")) == ["three"]
    assert admin.get("/jobs?status=queued").json()["total"] == 3
    assert keys(admin.get("/jobs?status=failed")) == ["dead"]
    assert keys(admin.get("/jobs?q=THRE")) == ["three"]
    assert admin.get("/jobs?q=ended_sess").json()["total"] == 4


def test_jobs_are_listed_by_the_time_they_were_asked_for(admin: SignedIn, session: Session) -> None:
    store(session, "one")

    assert keys(admin.get("/jobs?created_after=2026-01-01T00:00:00Z")) == ["one"]
    assert keys(admin.get("/jobs?created_before=2026-01-01T00:00:00Z")) == []


@pytest.mark.parametrize("query", ["status=lost", "sort=job", "cursor=", "limit=101"])
def test_what_the_list_does_not_know_is_refused(query: str, admin: SignedIn) -> None:
    assert admin.get(f"/jobs?{query}").status_code == 400


def test_a_dead_job_can_be_run_again(admin: SignedIn, session: Session, jobs: InlineJobs) -> None:
    store(session, "one", status="failed")

    answer = admin.post("/jobs/one/retry")

    assert (answer.status_code, answer.json()["status"], answer.json()["attempts"]) == (200, "queued", 0)
    assert jobs.queued == [("sessions.remove_ended_sessions", {})]


@pytest.mark.parametrize("status", ["queued", "active", "complete"])
def test_a_job_that_is_not_dead_cannot(status: str, admin: SignedIn, session: Session) -> None:
    store(session, "one", status=status)

    assert admin.post("/jobs/one/retry").json()["code"] == "job_not_dead"
    assert admin.post("/jobs/none/retry").status_code == 404


def test_the_dashboard_is_told_of_the_queue_and_its_jobs(admin: SignedIn, session: Session) -> None:
    store(session, "waiting")
    store(session, "running", status="active")
    store(session, "dead", status="failed")

    [queue] = admin.get(DASHBOARD).json()["queues"]
    assert (queue["queued"], queue["scheduled"], queue["active"], queue["workers"]) == (0, 1, 1, {})
    listed = admin.get(f"{DASHBOARD}/default").json()["queue"]["jobs"]
    assert {job["key"] for job in listed} == {"waiting", "running", "dead"}
    assert admin.get(f"{DASHBOARD}/default/jobs/dead").json()["job"]["error"] == "no"


def test_the_dashboard_can_call_a_job_off_and_run_it_again(admin: SignedIn, session: Session) -> None:
    store(session, "one")

    assert admin.post(f"{DASHBOARD}/default/jobs/one/abort").json()["job"]["status"] == "aborted"
    assert admin.post(f"{DASHBOARD}/default/jobs/one/retry").json()["job"]["status"] == "queued"
