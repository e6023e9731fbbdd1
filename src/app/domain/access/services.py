from collections import defaultdict
from uuid import UUID

from sqlalchemy import select, text

from app.domain.access.models import PolicyVersion
from app.lib.access.policy import Grant, Policy
from app.lib.db.service import Repository, Service
from app.lib.events import publish

POLICY_CHANGED = "policy"
"""The topic on which every process hears that its policy is out of date."""

_VERSION = select(PolicyVersion.number)
_POLICY = text("""
    SELECT 'version', NULL::uuid, number::text, NULL, NULL::uuid, NULL, NULL FROM policy_versions
    UNION ALL
    SELECT 'parent', NULL, role.name, parent.name, NULL, NULL, NULL
    FROM role_parents JOIN roles role ON role.id = role_id JOIN roles parent ON parent.id = parent_id
    UNION ALL
    SELECT 'assignment', user_id, name, NULL, NULL, NULL, NULL
    FROM role_assignments JOIN roles ON roles.id = role_id
    UNION ALL
    SELECT 'grant', permission_grants.id, coalesce('role:' || name, 'user:' || user_id),
        resource || ':' || action, object_id, rule, effect
    FROM permission_grants LEFT JOIN roles ON roles.id = role_id
""")
"""All in one statement: of two, the second could see a change of which the first saw nothing."""


class PolicyService(Service[PolicyVersion]):
    """The policy as it is stored."""

    class Repo(Repository[PolicyVersion]):
        model_type = PolicyVersion

    repository_type = Repo

    def version(self) -> int:
        return self.session.scalars(_VERSION).one()

    def load(self) -> Policy:
        version, grants = 0, []
        parents: dict[str, set[str]] = defaultdict(set)
        assignments: dict[UUID, set[str]] = defaultdict(set)
        for kind, id_, one, other, object_id, rule, effect in self.session.execute(_POLICY):
            match kind:
                case "version":
                    version = int(one)
                case "parent":
                    parents[one].add(other)
                case "assignment":
                    assignments[id_].add(one)
                case _:
                    grants.append(Grant(id_, one, other, object_id, rule, effect))
        return Policy(version=version, grants=grants, parents=parents, assignments=assignments)

    def begin_change(self) -> Policy:
        """The policy as it is now; nobody else changes it before this transaction ends. Otherwise somebody could grant
        what is being taken from them, and two changes could close a circle. Every process hears of the change."""
        self.session.execute(_VERSION.with_for_update())
        publish(self.session, POLICY_CHANGED, "changed")
        return self.load()
