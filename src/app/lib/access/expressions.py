"""Rules on permissions: expressions over plain attributes of who asks and of what is asked for.

    r.obj.owner_id == r.sub.id and r.obj.published

Read by Python's own parser, and then only a small part of the language is let in: no call, no arithmetic, no name but
`r.sub.<attribute>` and `r.obj.<attribute>`. Types are checked when a rule is written, so that a rule can neither fail
nor mean two things later. It has two values, never three: nothing is like SQL's NULL, in Python and in SQL alike.
"""

import ast
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from sqlalchemy import ColumnElement, and_, false, func, literal, not_, or_, true

MAX_LENGTH = 500
MAX_DEPTH = 25
"""Characters, and levels of nesting: both Python and SQLAlchemy call themselves once or more for each level."""
ATTRIBUTE_TYPES = (UUID, str, bool, int)
SUBJECT_ATTRIBUTES: Mapping[str, type] = {"id": UUID}
"""What a rule may know of who asks without a query."""
PARSING = threading.Lock()
"""To be held while Python parses: 3.11 fails now and then when two threads do (python/cpython#106905)."""

Attributes = Mapping[str, Any]
Condition = ColumnElement[bool]


class ExpressionError(ValueError):
    """The text is no rule. Its message says why, for the person who wrote it."""


@dataclass(frozen=True)
class Operand:
    """An attribute of `sub` or `obj`, or a constant, when `name` is None."""

    type: type
    source: str = ""
    name: str | None = None
    value: Any = None

    def of(self, sub: Attributes, obj: Attributes) -> Any:
        if self.name is None:
            return self.value
        return (sub if self.source == "sub" else obj)[self.name]

    def sql(self, sub: Attributes, columns: Mapping[str, Any]) -> Any:
        if self.source == "obj":
            return columns[str(self.name)]
        value = self.of(sub, {})
        return value if value is None else literal(value)


@dataclass(frozen=True)
class Expression:
    """A rule that was understood. `is_met` and `sql` agree on every object."""

    is_met: Callable[[Attributes, Attributes], bool]
    """Of subject and object, whose attributes have the declared types or are None."""
    sql: Callable[[Attributes, Mapping[str, Any]], Condition]
    """Of a subject and the columns that hold the attributes of objects."""
    named: frozenset[Any] = frozenset()
    """The constants with which who asks is compared: it says the same of all subjects that are none of these."""


def parse(text: str, attributes: Mapping[str, type]) -> Expression:
    """`attributes`: those of the object, with their types. Raises ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"A rule has at most {MAX_LENGTH} characters.")
    if not text.isprintable() or "\\" in text or "#" in text:  # PostgreSQL can store it, and nothing in it is hidden
        raise ExpressionError("A rule is one line of text, without backslash and number sign.")
    tree = _tree(text.strip())
    if _depth(tree) > MAX_DEPTH:
        raise ExpressionError("This is nested too deeply.")
    return _Reader(attributes).condition(tree)


def _tree(text: str) -> ast.expr:
    try:
        with PARSING:
            return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError("This is not an expression.") from error


def _depth(tree: ast.expr) -> int:
    depth, level = 0, [cast("ast.AST", tree)]
    while level:
        depth, level = depth + 1, [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


class _Reader:
    def __init__(self, attributes: Mapping[str, type]) -> None:
        self._known = {"sub": SUBJECT_ATTRIBUTES, "obj": attributes}

    def condition(self, node: ast.expr) -> Expression:
        match node:
            case ast.BoolOp(op=op, values=values):
                return _joined([self.condition(value) for value in values], every=isinstance(op, ast.And))
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                return _negated(self.condition(inner))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self._comparison(left, op, right)
            case ast.Compare():
                raise ExpressionError("Join two comparisons with `and`.")
        operand = self._operand(node)
        if operand.type is not bool:
            raise ExpressionError(f"`{ast.unparse(node)}` is neither true nor false.")
        return _equal(operand, Operand(bool, value=True))

    def _comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Expression:
        match op:
            case ast.Eq() | ast.Is():
                return _equal(*self._alike(left, right))
            case ast.NotEq() | ast.IsNot():
                return _negated(_equal(*self._alike(left, right)))
            case ast.In():
                return self._membership(left, right)
            case ast.NotIn():
                return _negated(self._membership(left, right))
            case ast.Lt():
                return self._less(left, right)
            case ast.Gt():
                return self._less(right, left)
            case ast.LtE():
                return self._less(left, right, or_equal=True)
        return self._less(right, left, or_equal=True)

    def _membership(self, left: ast.expr, right: ast.expr) -> Expression:
        if not isinstance(right, ast.Tuple | ast.List) or not right.elts:
            raise ExpressionError("`in` needs a list of values.")
        return _joined([_equal(*self._alike(left, one)) for one in right.elts], every=False)

    def _less(self, left: ast.expr, right: ast.expr, *, or_equal: bool = False) -> Expression:
        """Of numbers only: PostgreSQL and Python sort texts differently."""
        small, large = self._alike(left, right)
        if (small.type, large.type) != (int, int):
            raise ExpressionError("`<` and `>` compare whole numbers.")
        return _less(small, large, or_equal=or_equal)

    def _alike(self, left: ast.expr, right: ast.expr) -> tuple[Operand, Operand]:
        one, other = self._operand(left), self._operand(right)
        one, other = _as(other.type, one), _as(one.type, other)
        nothing = type(None)
        if one.type is not other.type and nothing not in (one.type, other.type):
            raise ExpressionError(f"`{ast.unparse(left)}` and `{ast.unparse(right)}` are never alike.")
        return one, other

    def _operand(self, node: ast.expr) -> Operand:
        match node:
            case ast.Constant(value=bool() | str() | None as value):
                return Operand(type(value), value=value)
            case ast.Constant(value=int() as value) if abs(value) < 2**63:
                return Operand(int, value=value)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as value)) if type(value) is int:
                return self._operand(ast.Constant(-value))
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="r"), attr=source), attr=name):
                return self._attribute(source, name)
        raise ExpressionError(f"`{ast.unparse(node)[:80]}` is not allowed in a rule.")

    def _attribute(self, source: str, name: str) -> Operand:
        known = self._known.get(source, {})
        if name not in known:
            listed = ", ".join(f"r.{source}.{one}" for one in known) or "none"
            raise ExpressionError(f"There is no `r.{source}.{name}`. There is: {listed}.")
        return Operand(known[name], source=source, name=name)


def _as(type_: type, operand: Operand) -> Operand:
    """An id is written as text."""
    if type_ is not UUID or operand.type is not str or operand.name:
        return operand
    try:
        return Operand(UUID, value=UUID(operand.value))
    except ValueError as error:
        raise ExpressionError(f"`{operand.value}` is not an id.") from error


def _joined(parts: list[Expression], *, every: bool) -> Expression:
    meet, join, empty = (all, and_, true()) if every else (any, or_, false())
    return Expression(
        is_met=lambda sub, obj: meet(part.is_met(sub, obj) for part in parts),
        sql=lambda sub, columns: join(empty, *[part.sql(sub, columns) for part in parts]),
        named=frozenset().union(*[part.named for part in parts]),
    )


def _negated(inner: Expression) -> Expression:
    return Expression(
        is_met=lambda sub, obj: not inner.is_met(sub, obj),
        sql=lambda sub, columns: not_(inner.sql(sub, columns)),
        named=inner.named,
    )


def _equal(one: Operand, other: Operand) -> Expression:
    def sql(sub: Attributes, columns: Mapping[str, Any]) -> Condition:
        left, right = one.sql(sub, columns), other.sql(sub, columns)
        if left is None or right is None:
            return true() if left is right else (left if right is None else right).is_(None)
        same: Condition = left.is_not_distinct_from(right) if _may_be_null(left, right) else left == right
        return same

    sides = ((one, other), (other, one))
    named = frozenset(side.value for side, opposite in sides if opposite.source == "sub" and side.name is None)
    return Expression(is_met=lambda sub, obj: bool(one.of(sub, obj) == other.of(sub, obj)), sql=sql, named=named)


def _less(small: Operand, large: Operand, *, or_equal: bool) -> Expression:
    """Nothing is neither more nor less than anything."""

    def is_met(sub: Attributes, obj: Attributes) -> bool:
        low, high = small.of(sub, obj), large.of(sub, obj)
        return low is not None and high is not None and (low < high or (or_equal and low == high))

    def sql(sub: Attributes, columns: Mapping[str, Any]) -> Condition:
        low, high = small.sql(sub, columns), large.sql(sub, columns)
        is_less: Condition = low <= high if or_equal else low < high
        return func.coalesce(is_less, false()) if _may_be_null(low, high) else is_less

    return Expression(is_met=is_met, sql=sql)


def _may_be_null(*sides: Any) -> bool:
    """Where nothing is NULL, the plain operators have two values, too, and can use an index."""
    return any(getattr(side, "nullable", False) for side in sides)
