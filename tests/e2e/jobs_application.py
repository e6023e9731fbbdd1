"""The application with one feature more: each request stores a row and asks for a job that leaves one effect."""

import sys
from typing import Literal

from litestar import Controller, Litestar
from litestar.params import JSONBody
from sqlalchemy import URL, NullPool, create_engine, text
from sqlalchemy.orm import Session

from app.lib.access.guards import public
from app.lib.errors import ConflictError
from app.lib.jobs.broker import enqueue
from app.lib.jobs.declaration import job
from app.lib.routing import post
from app.lib.schema import Schema
from app.server import asgi
from app.server import jobs as server_jobs
from app.server.controllers import CONTROLLERS

APPLICATION = "tests.e2e.jobs_application:create_app"
TABLES = """
    CREATE TABLE requests (number integer);
    CREATE TABLE effects (number integer, at timestamptz DEFAULT clock_timestamp());
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''not today''; END';
    CREATE CONSTRAINT TRIGGER refuse_at_commit AFTER INSERT ON requests DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.number % 6 = 5) EXECUTE FUNCTION refuse();
"""
"""A sixth of all requests fails at COMMIT, when everything else has been done."""


class RequestCreate(Schema):
    number: int
    outcome: Literal["stored", "refused"] = "stored"


@job(timeout=30)
def leave_effect(session: Session, *, number: int) -> None:
    """Slow enough to be killed in the middle, after it has written and before it commits."""
    session.execute(text("INSERT INTO effects VALUES (:number)"), {"number": number})
    session.execute(text("SELECT pg_sleep(0.03)"))


class RequestController(Controller):
    path = "/requests"
    guards = [public]

    @post()
    def create_request(self, data: JSONBody[RequestCreate], session: Session) -> RequestCreate:
        """Store a row and enqueue a job."""
        session.execute(text("INSERT INTO requests VALUES (:number)"), {"number": data.number})
        enqueue(session, leave_effect, key=f"effect:{data.number}", number=data.number)
        if data.outcome == "refused":
            raise ConflictError
        return data


def create_tables(url: URL) -> None:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(text(TABLES))


def create_app() -> Litestar:
    CONTROLLERS.append(RequestController)
    server_jobs.JOB_MODULES.append(sys.modules[__name__])
    return asgi.create_app()
