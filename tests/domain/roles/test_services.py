from itertools import pairwise
from uuid import UUID, uuid4

import pytest
from sqlalchemy.orm import Session

from app.domain.access.models import Role, RoleParent
from app.domain.roles.errors import TooDeepRolesError
from app.domain.roles.schemas import RoleCreate
from app.domain.roles.services import RoleService, has_more_levels

pytestmark = pytest.mark.integration


def chain(length: int) -> dict[UUID, set[UUID]]:
    roles = [uuid4() for _ in range(length)]
    return {role: {parent} for role, parent in pairwise(roles)}


@pytest.mark.parametrize(("length", "is_too_deep"), [(0, False), (2, False), (10, False), (11, True), (40, True)])
def test_levels_are_counted_along_the_longest_way(length: int, *, is_too_deep: bool) -> None:
    assert has_more_levels(chain(length) | chain(3), 10) is is_too_deep


def test_two_ways_to_the_same_role_are_one_level_each() -> None:
    top, left, right, bottom = (uuid4() for _ in range(4))
    diamond = {top: {left, right}, left: {bottom}, right: {bottom}}

    assert not has_more_levels(diamond, 3)
    assert has_more_levels(diamond, 2)


def test_a_circle_that_somebody_made_in_the_table_ends_and_is_refused(session: Session) -> None:
    one, other = Role(name="one"), Role(name="other")
    session.add_all([one, other])
    session.flush()
    session.add_all([RoleParent(role_id=one.id, parent_id=other.id), RoleParent(role_id=other.id, parent_id=one.id)])
    session.flush()

    with pytest.raises(TooDeepRolesError):
        RoleService(session).create_role(RoleCreate(name="third", parents=["one"]), by=None)


def test_an_operator_makes_roles_that_nobody_gave(session: Session) -> None:
    role = RoleService(session).create_role(RoleCreate(name="third", parents=["viewer"]), by=None)

    assert role.parents == ["viewer"]
    assert session.query(RoleParent.granted_by).where(RoleParent.role_id == role.id).one() == (None,)
