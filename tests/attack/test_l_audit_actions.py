"""SECURITY.md, line 72: each action of the audit log, done through HTTP. An action that is not here is a red test."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from app.domain.audit.models import Action
from tests.attack.audit_scene import Act, Said, Scene, by_ada, by_admin, by_nobody
from tests.attack.conftest import Keel
from tests.attack.test_f_address_changes import FORGOTTEN, NEW, change, move, new_email, verified
from tests.attack.test_g_identities import link
from tests.attack.test_totp import Ada
from tests.fake_provider import FakeProvider
from tests.links import token_in
from tests.live import PASSWORD, wait_until
from tests.visitor import Visitor

pytestmark = pytest.mark.e2e


def sign_in(scene: Scene) -> Said:
    assert scene.ask("POST", "/auth/login", email=scene.ada.email, password=PASSWORD).is_success
    return Said(scene.ada.id, scene.ada.id)


def end_other_sessions(scene: Scene) -> Said:
    scene.keel.sign_in(scene.ada.email)
    return by_ada("DELETE", "/users/me/sessions")(scene)


def reuse_refresh_token(scene: Scene) -> Said:
    token = scene.keel.sign_in(scene.ada.email)["refresh_token"]
    for expected in (200, 401):
        assert scene.ask("POST", "/auth/refresh", refresh_token=token).status_code == expected
    return Said(None, scene.ada.id, "denied")


def register(scene: Scene) -> Said:
    account: dict[str, Any] = {"email": new_email(), "password": PASSWORD, "first_name": "Ada", "last_name": "Lovelace"}
    assert scene.ask("POST", "/auth/register", **account).is_success
    return Said(None, scene.id_of(account["email"]))


def create_user(scene: Scene) -> Said:
    answer = scene.ask("POST", "/users", scene.admin, email=new_email(), first_name="Ada", last_name="Lovelace")
    return Said(scene.admin.id, UUID(answer.json()["id"]))


def reclaim(scene: Scene) -> Said:
    scene.fake.person |= {"email": scene.ada.email, "email_verified": True}
    with scene.client() as client:
        Visitor(client, scene.fake).arrive()
    return Said(scene.ada.id, scene.ada.id)


def list_users(scene: Scene) -> Said:
    assert scene.ask("GET", "/users?q=ada", scene.admin).is_success
    return Said(scene.admin.id, None)


def verify(scene: Scene) -> Said:
    token = token_in(scene.keel.mail_to(scene.ada.email, subject="Confirm your address"))
    assert scene.ask("POST", "/auth/verification/confirm", token=token).is_success
    return Said(scene.ada.id, scene.ada.id)


def ask_for_another_address(scene: Scene) -> Said:
    return by_ada("POST", "/users/me/email", email=new_email(), password=PASSWORD)(scene)


def change_email(scene: Scene) -> Said:
    email, new = verified(scene.keel), new_email()
    assert scene.ask("POST", "/auth/email/confirm", token=change(scene.keel, email, new)).is_success
    return Said(scene.id_of(new), scene.id_of(new))


def undo_change_of_email(scene: Scene) -> Said:
    email = verified(scene.keel)
    assert scene.ask("POST", "/auth/email/undo", token=move(scene.keel, email, new_email())).is_success
    return Said(scene.id_of(email), scene.id_of(email))


def reset_password(scene: Scene) -> Said:
    by_nobody("/auth/password/forgot")(scene)
    token = token_in(scene.keel.mail_to(scene.ada.email, subject=FORGOTTEN))
    assert scene.ask("POST", "/auth/password/reset", token=token, password=NEW).is_success
    return Said(scene.ada.id, scene.ada.id)


def enable_totp(scene: Scene) -> Said:
    assert scene.ask("POST", "/users/me/totp", scene.ada).is_success
    assert scene.ask("POST", "/users/me/totp/confirm", scene.ada, totp="000000").status_code == 400
    return Said(scene.ada.id, scene.ada.id, "failure")


def with_totp(method: str, path: str) -> Act:
    def act(scene: Scene) -> Said:
        somebody = Ada(scene.keel)
        assert scene.ask(method, path, somebody).is_success
        return Said(scene.id_of(somebody.email), scene.id_of(somebody.email))

    return act


def use_recovery_code(scene: Scene) -> Said:
    somebody = Ada(scene.keel)
    body: dict[str, Any] = {"email": somebody.email, "password": PASSWORD, "totp": somebody.recovery_codes[0]}
    assert scene.ask("POST", "/auth/login", **body).is_success
    return Said(None, scene.id_of(somebody.email))


create_api_key = by_ada("POST", "/users/me/api-keys", name="import", scopes=["items:read"])


def revoke_api_key(scene: Scene) -> Said:
    with scene.ada.client() as client:
        made = client.post("/users/me/api-keys", json={"name": "import", "scopes": ["items:read"]}).json()
    return by_ada("DELETE", f"/users/me/api-keys/{made['id']}")(scene)


def link_identity(scene: Scene) -> Said:
    with scene.client(scene.ada) as client:
        assert link(client, scene.fake) == {"linked": "fake"}
    return Said(scene.ada.id, scene.ada.id)


def unlink_identity(scene: Scene) -> Said:
    with scene.ada.client() as client:
        link(client, scene.fake)
        [identity] = client.get("/users/me/identities").json()["items"]
    return by_ada("DELETE", f"/users/me/identities/{identity['id']}")(scene)


def create_role(scene: Scene) -> Said:
    answer = scene.ask("POST", "/roles", scene.admin, name=f"r{uuid4().hex}")
    return Said(scene.admin.id, answer.json()["id"])


def with_role(method: str, path: str, **fields: Any) -> Act:
    """On a new one."""

    def act(scene: Scene) -> Said:
        with scene.admin.client() as client:
            role = client.post("/roles", json={"name": f"r{uuid4().hex}", **fields}).json()
        assert scene.ask(method, path.format(name=role["name"]), scene.admin).is_success
        return Said(scene.admin.id, role["id"])

    return act


def take_role(scene: Scene) -> Said:
    with scene.admin.client() as client:
        client.put(f"/users/{scene.ada.id}/roles/viewer").raise_for_status()
    return by_admin("DELETE", "/users/{id}/roles/viewer")(scene)


def take_permission(scene: Scene) -> Said:
    path = f"/users/{scene.ada.id}/permissions"
    with scene.admin.client() as client:
        given = client.post(path, json={"resource": "posts", "action": "read"}).raise_for_status().json()
    return by_admin("DELETE", f"{path}/{given['id']}")(scene)


def explain(scene: Scene) -> Said:
    return by_admin("POST", "/access/explain", user_id=str(scene.ada.id), resource="posts", action="read")(scene)


def retry_what_is_no_job(scene: Scene) -> Said:
    assert scene.ask("POST", "/jobs/no-such-job/retry", scene.admin).status_code == 404
    return Said(scene.admin.id, "no-such-job", "failure")


def abort_job(scene: Scene) -> Said:
    path = "/jobs/dashboard/api/queues/default/jobs/no-such-job/abort"
    assert scene.ask("POST", path, scene.admin).status_code == 404
    return Said(scene.admin.id, "no-such-job", "failure")


def be_denied(scene: Scene) -> Said:
    assert scene.ask("GET", "/users", scene.ada).status_code == 403
    wait_until(lambda: bool(scene.events(Action.ACCESS_DENIED)), seconds=5)
    return Said(scene.ada.id, None, "denied")


ACTS: dict[Action, Act] = {
    Action.SESSION_CREATED: sign_in,
    Action.SESSION_REAUTHENTICATED: by_ada("POST", "/auth/reauthentication", password=PASSWORD),
    Action.SESSION_ENDED: by_ada("POST", "/auth/logout"),
    Action.SESSION_REVOKED: end_other_sessions,
    Action.REFRESH_TOKEN_REUSED: reuse_refresh_token,
    Action.USER_REGISTERED: register,
    Action.USER_CREATED: create_user,
    Action.USER_UPDATED: by_ada("PATCH", "/users/me", first_name="Augusta"),
    Action.USER_ACTIVATION_CHANGED: by_admin("PATCH", "/users/{id}", is_active=False),
    Action.USER_ADMINISTRATOR_CHANGED: by_admin("PATCH", "/users/{id}", is_superuser=True),
    Action.USER_RECLAIMED: reclaim,
    Action.USER_DELETED: by_admin("DELETE", "/users/{id}"),
    Action.USER_READ: by_admin("GET", "/users/{id}"),
    Action.USERS_LISTED: list_users,
    Action.VERIFICATION_REQUESTED: by_nobody("/auth/verification"),
    Action.EMAIL_VERIFIED: verify,
    Action.EMAIL_CHANGE_REQUESTED: ask_for_another_address,
    Action.EMAIL_CHANGED: change_email,
    Action.EMAIL_CHANGE_UNDONE: undo_change_of_email,
    Action.PASSWORD_RESET_REQUESTED: by_nobody("/auth/password/forgot"),
    Action.PASSWORD_RESET: reset_password,
    Action.PASSWORD_CHANGED: by_ada("PUT", "/users/me/password", current_password=PASSWORD, password=NEW),
    Action.PASSWORD_REMOVED: by_admin("POST", "/users/{id}/password-reset"),
    Action.TOTP_ENABLED: enable_totp,
    Action.TOTP_DISABLED: with_totp("DELETE", "/users/me/totp"),
    Action.RECOVERY_CODES_REPLACED: with_totp("POST", "/users/me/totp/recovery-codes"),
    Action.RECOVERY_CODE_USED: use_recovery_code,
    Action.API_KEY_CREATED: create_api_key,
    Action.API_KEY_REVOKED: revoke_api_key,
    Action.IDENTITY_LINKED: link_identity,
    Action.IDENTITY_UNLINKED: unlink_identity,
    Action.ROLE_CREATED: create_role,
    Action.ROLE_DELETED: with_role("DELETE", "/roles/{name}"),
    Action.ROLE_PARENT_ADDED: with_role("PUT", "/roles/{name}/parents/viewer"),
    Action.ROLE_PARENT_REMOVED: with_role("DELETE", "/roles/{name}/parents/viewer", parents=["viewer"]),
    Action.ROLE_GIVEN: by_admin("PUT", "/users/{id}/roles/viewer"),
    Action.ROLE_TAKEN: take_role,
    Action.PERMISSION_GIVEN: by_admin("POST", "/users/{id}/permissions", resource="posts", action="read"),
    Action.PERMISSION_TAKEN: take_permission,
    Action.ACCESS_EXPLAINED: explain,
    Action.JOB_RETRIED: retry_what_is_no_job,
    Action.JOB_ABORTED: abort_job,
    Action.ACCESS_DENIED: be_denied,
}


AT_THE_COMMAND_LINE = {Action.DATABASE_BACKED_UP, Action.DATABASE_RESTORED}
"""Nobody does these through HTTP: tests/e2e/test_backups.py."""


@pytest.mark.attack(72)
@pytest.mark.parametrize("action", [action for action in Action if action not in AT_THE_COMMAND_LINE])
def test_every_action_says_who_did_what_to_whom_and_how_it_ended(
    keel: Keel, fakes: dict[str, FakeProvider], action: Action
) -> None:
    scene = Scene(keel, fakes)

    said = ACTS[action](scene)

    [event] = scene.events(action)
    subject = None if said.subject is None else str(said.subject)
    assert (event.actor_id, event.subject_id, event.outcome) == (said.actor, subject, said.outcome)
    assert event.address.startswith("198.18.")
    assert event.source.split()[0] in {"GET", "POST", "PUT", "PATCH", "DELETE"}
    assert event.impersonator_id is None
