"""The policy of this process, which follows the one that is stored."""

import threading

from sqlalchemy import URL
from sqlalchemy.orm import Session

from app.domain.access.services import POLICY_CHANGED, PolicyService
from app.lib.access.control import AccessControl
from app.lib.db.database import create_pool


class PolicyFollower:
    """Fed by an event feed of its own: to build a policy takes longer than anybody should wait for other news.

    Whoever changes the policy waits until their own process knows; others hear within milliseconds.
    """

    topic = POLICY_CHANGED

    def __init__(self, access: AccessControl, url: URL | str) -> None:
        self._access = access
        self._engine = create_pool(url, size=1, name="keel-policy", isolation_level="AUTOCOMMIT")
        self._lock = threading.Lock()

    def receive(self, payload: str) -> None:  # noqa: ARG002  (what has changed, the version tells)
        with self._lock, Session(self._engine) as session:
            self._follow(PolicyService(session))

    def catch_up(self, session: Session, *, everything: bool) -> None:
        """A new connection may lead to another server, or one that was restored: numbers say nothing then."""
        with self._lock:
            self._follow(PolicyService(session), anew=everything)

    def close(self) -> None:
        self._engine.dispose()

    def _follow(self, policies: PolicyService, *, anew: bool = False) -> None:
        if anew or policies.version() != self._access.policy.version:
            self._access.policy = policies.load()
