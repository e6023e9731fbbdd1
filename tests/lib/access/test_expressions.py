from typing import Any
from uuid import UUID

import pytest

from app.lib.access.expressions import MAX_DEPTH, MAX_LENGTH, ExpressionError, parse

pytestmark = pytest.mark.unit

ADA = UUID("018f0000-0000-7000-8000-00000000ada0")
EVE = UUID("018f0000-0000-7000-8000-00000000e0e0")
ATTRIBUTES = {"id": UUID, "owner_id": UUID, "published": bool, "title": str, "votes": int}
POST: dict[str, Any] = {"id": EVE, "owner_id": ADA, "published": True, "title": "Tea", "votes": 3}
NOTHING = dict.fromkeys(ATTRIBUTES)


def is_met(rule: str, obj: dict[str, Any] = POST) -> bool:
    return parse(rule, ATTRIBUTES).is_met({"id": ADA}, obj)


@pytest.mark.parametrize(
    ("rule", "of_post", "of_nothing"),
    [
        ("r.obj.owner_id == r.sub.id", True, False),
        ("r.sub.id != r.obj.owner_id", False, True),
        (f"r.obj.owner_id == '{ADA}'", True, False),
        (f"'{str(ADA).upper()}' == r.obj.owner_id", True, False),
        ("r.obj.published", True, False),
        ("not r.obj.published", False, True),
        ("r.obj.published == True", True, False),
        ("r.obj.published is False", False, False),
        ("r.obj.published is not True", False, True),
        ("r.obj.title == 'Tea' and r.obj.published", True, False),
        ("r.obj.title == 'tea' or r.obj.votes == 3", True, False),
        ("r.obj.title in ('Tea', 'Coffee')", True, False),
        ("r.obj.title not in ['Tea']", False, True),
        ("r.obj.title in ['Milk', None]", False, True),
        ("r.obj.title is None", False, True),
        ("None == None", True, True),
        ("r.obj.votes > 2", True, False),
        ("r.obj.votes >= 3 and r.obj.votes <= 3", True, False),
        ("3 < r.obj.votes", False, False),
        ("not r.obj.votes < 3", True, True),
        ("r.obj.votes > -1", True, False),
        ("r.sub.id is None", False, False),
        ("True", True, True),
        ("  r.obj.published  ", True, False),
    ],
)
def test_rules_mean_what_they_say_and_have_two_values(rule: str, *, of_post: bool, of_nothing: bool) -> None:
    assert is_met(rule) is of_post
    assert is_met(rule, NOTHING) is of_nothing


@pytest.mark.parametrize(
    "rule",
    [
        *("", " ", "r", "r.obj", "r.sub", "r.obj.owner_id", "r.obj.title", "'yes'", "1", "None", "()", "...", "1.5"),
        *("r.obj.__class__", "r.sub.__class__", "r.__class__", "r.obj.id.__class__", "r.obj.id.int", "r.sub.name"),
        *("r.obj.owner_id == r.sub.id.hex", "r.obj.r.obj.id == r.sub.id", "r.obj.get('id') == r.sub.id"),
        *("p.obj.id == r.sub.id", "sub.id == r.sub.id", "id", "published", "r.act == 'read'", "R.obj.published"),
        *("__import__('os').system('id')", "eval('True')", "(lambda: True)()", "lambda: True", "print"),
        *("[x for x in (True,)][0]", "[x for x in (1,)]", "{x: x for x in (1,)}", "any(x for x in (True,))"),
        *("(r := True)", "(yes := True) and yes", "f'{r.obj.title}' == 'Tea'", "f'' == ''", "b'' == b''"),
        *("True if True else False", "r.obj['published']", "r.obj.title[0] == 'T'", "r.obj.votes + 1 == 4"),
        *("9 ** 9 ** 9 == 1", "~r.obj.votes == 1", "+r.obj.votes == 3", "-r.obj.votes == 3", "-True == 1", "- -1 == 1"),
        *(
            "'a' * 999999999 == 'a'",
            "'%s' % r.obj.title == 'Tea'",
            "await r",
            "yield",
            "*r, True",
            "r.obj.published, 1",
        ),
        *(
            "r.obj.published; True",
            "x = True",
            "import os",
            "r.obj.published\nTrue",
            "r.obj.published # not",
            "True \\\n",
        ),
        *("1 < r.obj.votes < 5", "r.obj.title == 'Tea' == 'Tea'", "r.obj.owner_id == r.sub.id != None"),
        *("r.obj.published == 1", "r.obj.votes == True", "r.obj.votes == '3'", "r.obj.title == 3", "1 == True"),
        *("r.obj.owner_id == 'ada'", "r.obj.owner_id == 1", "r.obj.owner_id == r.obj.title", "r.obj.title < 'Z'"),
        *("r.obj.published < True", "r.obj.votes < None", "r.obj.votes > 1.5", "r.obj.owner_id > r.sub.id"),
        *("r.obj.title in 'Tea'", "r.obj.title in ()", "r.obj.title in r.obj.title", "r.obj.title in ['Tea', 1]"),
        *("r.obj.title in {'Tea'}", "r.obj.title in [['Tea']]", "r.obj.title in [*'Tea']", "r.obj.votes == 1j"),
        *(f"r.obj.votes == {2**63}", "r.obj.votes == 1e3", "r.obj.votes == 99999999999999999999999999999"),
        *("r.obj.title == '\\x00'", "r.obj.title == '\\ud800'", "r.obj.title == '\x00'", "r.obj.title == '\ud800'"),
        *("r.obj.title == 'a\u202eb'", "r.obj.title == '\\N{BULLET}'", "r.obj.\u03bfwner_id == r.sub.id"),
        *("r.оbj.published", "r.obj.published\u200b", "r.obj.published\u2028True", "not" * 100, "True,"),
    ],
)
def test_whatever_else_python_can_say_is_refused(rule: str) -> None:
    with pytest.raises(ExpressionError) as refused:
        parse(rule, ATTRIBUTES)

    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()


def test_letters_that_python_takes_for_others_mean_those_others() -> None:
    """Identifiers are compared after NFKC; an attribute has one name, however it was written."""
    assert is_met("r.obj.\uff4fwner_id == r.\uff53ub.id")
    with pytest.raises(ExpressionError, match=r"no `r.obj.__class__`"):
        parse("r.obj.__\uff43lass__", ATTRIBUTES)


@pytest.mark.parametrize(
    "rule",
    [
        "(" * 249 + "1" + ")" * 249,
        "-" * 490 + "1 == 1",
        "not " * 120 + "True",
        "True and (False or (" * 24 + "True" + "))" * 24,
        "r" + ".a" * 249,
        "[" * 240 + "]" * 240,
        "r.obj.title == 'x'" + " or r.obj.title == 'x'" * 30,
        "r.obj.title == '" + "x" * MAX_LENGTH + "'",
    ],
    ids=["parentheses", "minus", "not", "and-or", "attributes", "lists", "long", "text"],
)
def test_a_rule_that_would_tire_python_is_refused(rule: str) -> None:
    with pytest.raises(ExpressionError):
        parse(rule, ATTRIBUTES)


def test_what_is_nested_as_deeply_as_it_may_be_still_works() -> None:
    nots = MAX_DEPTH - 4

    assert is_met("not " * nots + "r.obj.published") is (nots % 2 == 0)


def test_an_error_says_what_there_is() -> None:
    with pytest.raises(ExpressionError, match=r"no `r.obj.author`. There is: r.obj.id, r.obj.owner_id, .*r.obj.votes"):
        parse("r.obj.author == r.sub.id", ATTRIBUTES)
    with pytest.raises(ExpressionError, match=r"no `r.env.time`. There is: none"):
        parse("r.env.time == 1", ATTRIBUTES)


def test_an_attribute_that_an_object_does_not_have_is_no_answer() -> None:
    """Another kind of object: an error of ours, which must not look like "nothing"."""
    with pytest.raises(KeyError):
        is_met("not r.obj.published", {"id": EVE})
