"""What somebody may hand on, or take from others: nothing beyond what they hold themselves."""

from collections import defaultdict
from collections.abc import Iterable
from enum import StrEnum
from uuid import UUID

from app.lib.access.policy import DENY, Grant, Policy
from app.lib.access.resources import attributes_of
from app.lib.db.models import Model
from app.lib.errors import PermissionDeniedError


class Authority:
    """Of one person, by one policy. Whoever is `unlimited` holds everything: superusers, and operators."""

    def __init__(self, policy: Policy, user_id: UUID | None, *, is_unlimited: bool) -> None:
        self.policy = policy
        self.user_id = user_id
        self.is_unlimited = is_unlimited
        self._own: dict[str, list[Grant]] = defaultdict(list)
        if user_id and not is_unlimited:
            for grant in policy.grants_for(user_id):
                self._own[grant.permission].append(grant)

    def check(self, permission: StrEnum, row: Model) -> None:
        """Raises PermissionDeniedError."""
        if self.is_unlimited:
            return
        attributes = attributes_of(row)
        if self.user_id is None or not self.policy.allows(self.user_id, permission, attributes):
            raise PermissionDeniedError(permission=permission, attributes=attributes)

    def covers(self, grants: Iterable[Grant]) -> bool:
        """Whether they hold all of this. A deny is theirs to give or take when they hold what it withholds."""
        return self.is_unlimited or all(map(self._holds, grants))

    def covers_role(self, name: str) -> bool:
        """Whether they hold all that is in the role, and in those from which it inherits."""
        return self.covers(self.policy.grants_of(*(f"role:{role}" for role in self.policy.roles_within([name]))))

    def covers_user(self, user_id: UUID) -> bool:
        """Whether they hold all that this user may do, so that nothing is gained by becoming them."""
        if self.is_unlimited:
            return True
        grants = self.policy.grants_for(user_id)
        return all(
            grant.effect == DENY or self._holds(grant, user_id) or not self.policy.may(user_id, grant.permission)
            for grant in grants
        )

    def covers_holders(self, name: str) -> bool:
        """Whether nobody who has this role may do more than they: whoever changes it changes what those may do."""
        return self.is_unlimited or all(map(self.covers_user, self.policy.holders_of(name)))

    def has_role(self, name: str) -> bool:
        """By the policy: given to them, inherited, or everyone's."""
        return self.user_id is not None and name in self.policy.roles_of(self.user_id)

    def _holds(self, grant: Grant, holder: UUID | None = None) -> bool:
        """Always and for every object; or, of what allows, just this. A deny of theirs, of whatever, spoils it.

        `holder`: whose it is; None, whosever it may become.
        """
        mine = self._own[grant.permission]
        if any(own.effect == DENY for own in mine):
            return False
        return any(not own.is_conditional or self._is_same(own, grant, holder) for own in mine)

    def _is_same(self, own: Grant, grant: Grant, holder: UUID | None) -> bool:
        """A rule about certain people gives one of them something, and the next who has it nothing."""
        is_equal = (own.object_id, own.rule, own.effect) == (grant.object_id, grant.rule, grant.effect)
        return is_equal and grant.named.isdisjoint({self.user_id, holder} if holder else grant.named)
