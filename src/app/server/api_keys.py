"""Which API key asks: looked up, remembered for 5 seconds, and forgotten in every process when it is revoked."""

import asyncio
import functools
import time
from typing import Any, NamedTuple
from uuid import UUID

from litestar.datastructures import State
from sqlalchemy.orm import Session

from app.domain.api_keys.services import API_KEY_REVOKED, ApiKeyService, KeyHolder
from app.lib.access.guards import Principal, scope_of
from app.lib.api_keys import is_well_formed
from app.lib.db.models import utc_now
from app.lib.errors import ScopeRequiredError, TooManyRequestsError
from app.lib.random_secrets import hash_of
from app.lib.rate_limits import network_of
from app.lib.routing import hop

REMEMBERED = 5.0
"""Seconds for which an answer of the database is believed."""
REMEMBERED_KEYS = 10_000
REVOKED = 120.0
"""Seconds, much longer than an answer can be under way: one that left before a revocation may arrive after it."""


class Answer(NamedTuple):
    """What the database said of a key. `until`: by `time.monotonic`."""

    holder: Principal | None
    until: float


class ApiKeyring:
    """The keys that were presented to this process, by their hashes.

    Its look-ups belong to the event loop. Fed by the event feed, it learns of revocations from any thread.
    """

    topic = API_KEY_REVOKED

    def __init__(self, *, is_limited: bool) -> None:
        self._is_limited = is_limited
        self._answers: dict[bytes, Answer] = {}
        self._questions: dict[bytes, asyncio.Task[Answer]] = {}
        self._revoked: dict[UUID, float] = {}

    def receive(self, payload: str) -> None:
        self._revoked[UUID(payload)] = time.monotonic()

    def catch_up(self, session: Session, *, everything: bool) -> None:  # noqa: ARG002  (there is nothing to read)
        """What an event has not told, the next look-up will."""
        too_old = time.monotonic() - REVOKED
        for key_id in [key_id for key_id, since in list(self._revoked.items()) if since < too_old]:
            self._revoked.pop(key_id, None)

    async def holder_of(self, key: str, scope: Any) -> Principal | None:
        """Who asks with this key; None when it is not, or no longer, good.

        Asks nothing where the answer does not depend on it. Raises ScopeRequiredError where no key is accepted,
        TooManyRequestsError and OverloadedError when too many unknown keys come.
        """
        if not is_well_formed(key):
            return None
        if scope_of(scope["route_handler"], scope["method"]) is None:
            raise ScopeRequiredError(None)
        digest = hash_of(key)
        answer = self._answers.get(digest)
        if answer is None or answer.until <= time.monotonic():
            answer = await self._ask(digest, scope)
        if answer.holder and answer.holder.session_id in self._revoked:
            return None
        return answer.holder

    async def _ask(self, digest: bytes, scope: Any) -> Answer:
        """Once, however many requests wait for it, and also when the one that began leaves."""
        question = self._questions.get(digest)
        if question is None:
            known = self._answers.get(digest)
            is_known = known is not None and known.holder is not None
            state, client = scope["litestar_app"].state, scope["client"]
            look_up = self._look_up if is_known else functools.partial(self._look_up_stranger, client=client)
            question = self._questions[digest] = asyncio.create_task(look_up(digest, state))
            question.add_done_callback(functools.partial(self._forget_question, digest))
        return await asyncio.shield(question)

    def _forget_question(self, digest: bytes, question: asyncio.Task[Answer]) -> None:
        del self._questions[digest]
        if not question.cancelled():
            question.exception()  # or asyncio complains when all who asked have left

    async def _look_up_stranger(self, digest: bytes, state: State, *, client: tuple[str, int] | None) -> Answer:
        """Anybody can invent keys. They come one by one, and leave the threads to others."""
        if self._is_limited:
            window = await state.rate_limiter.hit("api_keys", f"address:{network_of(client[0] if client else '')}")
            if not window.is_admitted:
                raise TooManyRequestsError(retry_after=window.reset)
        async with state.gates["api_keys"]:
            return await self._look_up(digest, state)

    async def _look_up(self, digest: bytes, state: State) -> Answer:
        """In a unit of work that writes: a replica may not have heard of the key, or of its end."""

        def find(session: Session) -> KeyHolder | None:
            return ApiKeyService(session).find_holder(digest)

        answer = _answer(await hop(state, functools.partial(state.database.write, find)))
        self._answers.pop(digest, None)
        if len(self._answers) >= REMEMBERED_KEYS:
            del self._answers[next(iter(self._answers))]
        self._answers[digest] = answer
        return answer


def _answer(found: KeyHolder | None) -> Answer:
    seconds = REMEMBERED
    if found and found.expires_at:
        seconds = min(seconds, (found.expires_at - utc_now()).total_seconds())
    return Answer(found.principal if found else None, time.monotonic() + seconds)
