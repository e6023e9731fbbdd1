import ast
import logging
import threading
from uuid import uuid4

import pytest
from sqlalchemy import true

from app.lib.access.enforcer import CasbinRule, Subject, decide
from app.lib.access.expressions import Expression

pytestmark = pytest.mark.unit

ADA = Subject({"user:ada": None}, {"id": uuid4()})
RULE = CasbinRule("user:ada", "posts:read", None, None, "allow")


def test_without_a_rule_there_is_no_permission() -> None:
    assert decide(ADA, "posts:read", {}, [RULE])
    assert not decide(ADA, "posts:read", {}, [])
    assert not decide(ADA, "", {}, [])


def test_rules_of_others_and_for_something_else_do_not_apply() -> None:
    """The index never asks about them; Casbin would not mind."""
    for rule in (
        RULE._replace(subject="user:eve"),
        RULE._replace(subject="user:*"),
        RULE._replace(permission="posts:update"),
        RULE._replace(object_id=uuid4()),
        RULE._replace(effect="deny"),
        RULE._replace(effect="perhaps"),
    ):
        assert not decide(ADA, "posts:read", {"id": uuid4()}, [rule])


def test_a_decision_waits_for_no_other_thread() -> None:
    """Guards decide on the event loop, for which everybody waits."""
    has_begun, may_end = threading.Event(), threading.Event()

    def think(*_: object) -> bool:
        has_begun.set()
        return may_end.wait(5)

    slow = RULE._replace(condition=Expression(is_met=think, sql=lambda *_: true()))
    thread = threading.Thread(target=decide, args=(ADA, "posts:read", {}, [slow]))
    thread.start()
    try:
        assert has_begun.wait(5)
        assert decide(ADA, "posts:read", {}, [RULE])
        assert thread.is_alive()
    finally:
        may_end.set()
        thread.join()


def test_casbin_parses_its_matcher_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ast.parse` in two threads at once fails now and then on Python 3.11."""
    assert decide(ADA, "posts:read", {}, [RULE])
    parsed: list[str] = []
    monkeypatch.setattr(ast, "parse", lambda text, **_: parsed.append(text))

    assert decide(ADA, "posts:read", {}, [RULE, RULE])

    assert parsed == []


def test_casbin_writes_no_line_for_each_refusal(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("casbin.enforcer").disabled = False

    with caplog.at_level(logging.WARNING):
        assert not decide(ADA, "posts:read", {"id": uuid4()}, [RULE._replace(effect="deny")])

    assert caplog.records == []
