"""Who gets which answer from which route. A new route gets its row here, after some thought: a test prints it."""

import json
from typing import Any
from uuid import uuid4

from tests.attack.crowd import Person
from tests.live import PASSWORD
from tests.sample_files import picture

API = "/api/v1"
CALLERS = ("anonymous", "inactive", "key", "nobody", "viewer", "editor", "admin", "superuser", "owner")
"""`key`: an API key of a superuser for `items:read` alone. `nobody`: signed in, without a role. `owner`: has no role
either, but whatever the path names is theirs. To all others it belongs to somebody else."""

# One status alone is everybody's. Paths are below the API's prefix, where they begin with it.
#
#                                                                 ano ina key non vie edi adm sup own
TABLE = """
GET    /                                                          200
POST   /access/explain                                            401 401 403 403 403 403 200 200 403
GET    /audit-events                                              401 401 403 403 403 403 200 200 403
POST   /auth/cookie/exchange                                      401
POST   /auth/cookie/login                                         204
POST   /auth/cookie/logout                                        401
POST   /auth/cookie/refresh                                       401
POST   /auth/email/confirm                                        400
POST   /auth/email/undo                                           400
POST   /auth/login                                                200
POST   /auth/logout                                               401 401 403 204 204 204 204 204 204
POST   /auth/password/forgot                                      202
POST   /auth/password/reset                                       400
GET    /auth/providers                                            200
POST   /auth/providers/exchange                                   401
GET    /auth/providers/{name}/authorize                           302
GET    /auth/providers/{name}/callback                            400
POST   /auth/reauthentication                                     401 401 403 200 200 200 200 200 200
POST   /auth/refresh                                              401
POST   /auth/register                                             202
POST   /auth/verification                                         202
POST   /auth/verification/confirm                                 400
GET    /avatars/{avatar_id}                                       200
GET    /confirm/static/{name}                                     404
GET    /confirm/{purpose}                                         404
GET    /docs                                                      200
GET    /docs/assets/{file_path}                                   404
HEAD   /docs/assets/{file_path}                                   404
GET    /files                                                     401 401 403 200 200 200 200 200 200
POST   /files                                                     401 401 403 201 201 201 201 201 201
GET    /files/{file_id}                                           401 401 403 404 404 404 404 200 200
DELETE /files/{file_id}                                           401 401 403 404 404 404 404 204 204
GET    /files/{file_id}/content                                   401 401 403 404 404 404 404 200 200
GET    /health                                                    200
GET    /health/cache                                              200
GET    /health/db                                                 200
GET    /health/live                                               200
GET    /health/ready                                              200
GET    /items                                                     401 401 200 200 200 200 200 200 200
POST   /items                                                     401 401 403 201 201 201 201 201 201
GET    /items/{item_id}                                           401 401 200 404 404 404 200 200 200
PATCH  /items/{item_id}                                           401 401 403 404 404 404 200 200 200
DELETE /items/{item_id}                                           401 401 403 404 404 404 204 204 204
GET    /jobs                                                      401 401 403 403 403 403 200 200 403
GET    /jobs/dashboard                                            200
GET    /jobs/dashboard/api/queues                                 401 401 403 403 403 403 200 200 403
GET    /jobs/dashboard/api/queues/{queue}                         401 401 403 403 403 403 200 200 403
GET    /jobs/dashboard/api/queues/{queue}/jobs/{key}              401 401 403 403 403 403 404 404 403
POST   /jobs/dashboard/api/queues/{queue}/jobs/{key}/abort        401 401 403 403 403 403 404 404 403
POST   /jobs/dashboard/api/queues/{queue}/jobs/{key}/retry        401 401 403 403 403 403 404 404 403
GET    /jobs/dashboard/queues/{queue}                             200
GET    /jobs/dashboard/queues/{queue}/jobs/{key}                  200
GET    /jobs/dashboard/static/{name}                              404
POST   /jobs/{key}/retry                                          401 401 403 403 403 403 404 404 403
GET    /oauth2-redirect.html                                      200
GET    /openapi.json                                              200
GET    /posts                                                     401 401 403 403 200 200 200 200 403
POST   /posts                                                     401 401 403 403 403 201 201 201 403
GET    /posts/{post_id}                                           401 401 403 403 404 200 200 200 403
PATCH  /posts/{post_id}                                           401 401 403 404 404 200 200 200 200
DELETE /posts/{post_id}                                           401 401 403 404 404 204 204 204 204
GET    /redoc                                                     200
GET    /roles                                                     401 401 403 403 403 403 200 200 403
POST   /roles                                                     401 401 403 403 403 403 201 201 403
GET    /roles/{name}                                              401 401 403 403 403 403 200 200 403
DELETE /roles/{name}                                              401 401 403 403 403 403 204 204 403
PUT    /roles/{name}/parents/{parent}                             401 401 403 403 403 403 200 200 403
DELETE /roles/{name}/parents/{parent}                             401 401 403 403 403 403 204 204 403
GET    /roles/{name}/permissions                                  401 401 403 403 403 403 200 200 403
POST   /roles/{name}/permissions                                  401 401 403 403 403 403 201 201 403
DELETE /roles/{name}/permissions/{permission_id}                  401 401 403 403 403 403 204 204 403
GET    /users                                                     401 401 403 403 403 403 200 200 403
POST   /users                                                     401 401 403 403 403 403 201 201 403
GET    /users/me                                                  401 401 403 200 200 200 200 200 200
PATCH  /users/me                                                  401 401 403 200 200 200 200 200 200
DELETE /users/me                                                  401 401 403 204 204 204 204 204 204
GET    /users/me/api-keys                                         401 401 403 200 200 200 200 200 200
POST   /users/me/api-keys                                         401 401 403 201 201 201 201 201 201
GET    /users/me/api-keys/scopes                                  401 401 403 200 200 200 200 200 200
DELETE /users/me/api-keys/{api_key_id}                            401 401 403 404 404 404 404 404 204
GET    /users/me/avatar                                           401 401 403 404 404 404 404 404 200
PUT    /users/me/avatar                                           401 401 403 200 200 200 200 200 200
DELETE /users/me/avatar                                           401 401 403 204 204 204 204 204 204
POST   /users/me/email                                            401 401 403 202 202 202 202 202 202
GET    /users/me/identities                                       401 401 403 200 200 200 200 200 200
POST   /users/me/identities                                       401 401 403 200 200 200 200 200 200
DELETE /users/me/identities/{identity_id}                         401 401 403 404 404 404 404 404 204
PUT    /users/me/password                                         401 401 403 204 204 204 204 204 204
GET    /users/me/permissions                                      401 401 403 200 200 200 200 200 200
GET    /users/me/sessions                                         401 401 403 200 200 200 200 200 200
DELETE /users/me/sessions                                         401 401 403 204 204 204 204 204 204
DELETE /users/me/sessions/{session_id}                            401 401 403 404 404 404 404 404 204
GET    /users/me/totp                                             401 401 403 200 200 200 200 200 200
POST   /users/me/totp                                             401 401 403 201 201 201 201 201 201
DELETE /users/me/totp                                             401 401 403 404 404 404 404 404 404
POST   /users/me/totp/confirm                                     401 401 403 404 404 404 404 404 404
POST   /users/me/totp/recovery-codes                              401 401 403 404 404 404 404 404 404
GET    /users/{user_id}                                           401 401 403 403 403 403 200 200 403
PATCH  /users/{user_id}                                           401 401 403 403 403 403 200 200 403
DELETE /users/{user_id}                                           401 401 403 403 403 403 204 204 403
POST   /users/{user_id}/password-reset                            401 401 403 403 403 403 202 202 403
GET    /users/{user_id}/permissions                               401 401 403 403 403 403 200 200 403
POST   /users/{user_id}/permissions                               401 401 403 403 403 403 201 201 403
DELETE /users/{user_id}/permissions/{permission_id}               401 401 403 403 403 403 204 204 403
GET    /users/{user_id}/roles                                     401 401 403 403 403 403 200 200 403
PUT    /users/{user_id}/roles/{role}                              401 401 403 403 403 403 200 200 403
DELETE /users/{user_id}/roles/{role}                              401 401 403 403 403 403 204 204 403
DELETE /users/{user_id}/sessions                                  401 401 403 403 403 403 204 204 403
DELETE /users/{user_id}/totp                                      401 401 403 403 403 403 404 404 403
"""

NEW, OWNER, OWNER_ID = "a-new-name", "the-address-of-the-owner", "the-id-of-the-owner"
"""What stands for them in bodies."""
BODIES: dict[str, Any] = {
    "POST /auth/register": {"email": f"{NEW}@example.com", "password": PASSWORD, "first_name": "E", "last_name": "E"},
    "POST /auth/login": {"email": OWNER, "password": PASSWORD},
    "POST /auth/cookie/login": {"email": OWNER, "password": PASSWORD},
    "POST /auth/refresh": {"refresh_token": "x"},
    "POST /auth/reauthentication": {"password": PASSWORD},
    "POST /auth/verification": {"email": f"{NEW}@example.com"},
    "POST /auth/verification/confirm": {"token": "x"},
    "POST /auth/password/forgot": {"email": f"{NEW}@example.com"},
    "POST /auth/password/reset": {"token": "x", "password": PASSWORD},
    "POST /auth/email/confirm": {"token": "x"},
    "POST /auth/email/undo": {"token": "x"},
    "POST /auth/providers/exchange": {"code": "x"},
    "POST /auth/cookie/exchange": {"code": "x"},
    "PATCH /users/me": {"first_name": "E"},
    "PUT /users/me/password": {"current_password": PASSWORD, "password": f"{PASSWORD}!"},
    "POST /users/me/email": {"email": f"{NEW}@example.com", "password": PASSWORD},
    "POST /users/me/identities": {"provider": "fake"},
    "POST /users/me/api-keys": {"name": "x", "scopes": ["items:read"]},
    "POST /users/me/totp/confirm": {"totp": "000000"},
    "POST /users": {"email": f"{NEW}@example.com", "first_name": "E", "last_name": "E"},
    "PATCH /users/{user_id}": {"first_name": "E"},
    "POST /users/{user_id}/permissions": {"resource": "posts", "action": "read"},
    "POST /roles": {"name": f"role-{NEW}"},
    "POST /roles/{name}/permissions": {"resource": "posts", "action": "read"},
    "POST /access/explain": {"user_id": OWNER_ID, "resource": "posts", "action": "read"},
    "POST /items": {"title": "x"},
    "PATCH /items/{item_id}": {"title": "x"},
    "POST /posts": {"title": "x", "body": "x"},
    "PATCH /posts/{post_id}": {"title": "x"},
}
UPLOADS = ("POST /files", "PUT /users/me/avatar")


def rows() -> dict[str, tuple[int, ...]]:
    """The statuses in the order of CALLERS, by method and path."""
    split = [line.split() for line in TABLE.strip().splitlines()]
    return {f"{method} {path}": _for_all(statuses) for method, path, *statuses in split}


def row(route: str, statuses: tuple[int, ...]) -> str:
    """As it stands in the table."""
    method, path = route.split()
    shown = statuses[:1] if len(set(statuses)) == 1 else statuses
    return f"{method:6} {path:58} {' '.join(map(str, shown))}"


def _for_all(statuses: list[str]) -> tuple[int, ...]:
    known = tuple(map(int, statuses))
    return known * len(CALLERS) if len(known) == 1 else known


def body_of(route: str, owner: Person) -> dict[str, Any]:
    """As `httpx` takes it; about the owner, where it is about anybody."""
    if route in UPLOADS:
        return {"files": {"file": ("x.png", picture())}}
    if route not in BODIES:
        return {}
    written = json.dumps(BODIES[route])
    for placeholder, value in {NEW: uuid4().hex, OWNER: owner.email, OWNER_ID: str(owner.id)}.items():
        written = written.replace(placeholder, value)
    return {"json": json.loads(written)}
