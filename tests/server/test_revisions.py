import pytest

from app.server.revisions import Revisions, Tables

pytestmark = pytest.mark.unit
REVISIONS = Revisions()
BEFORE = str(int(max(REVISIONS.heads)) - 1).zfill(4)


@pytest.mark.parametrize(
    ("applied", "tables"),
    [
        (sorted(REVISIONS.heads), Tables.CURRENT),
        ([], Tables.OLDER),
        ([BEFORE], Tables.OLDER),
        (["9999"], Tables.NEWER),
        ([BEFORE, "9999"], Tables.NEWER),
    ],
    ids=["the newest", "none", "the one before", "an unknown one", "an unknown one beside a known one"],
)
def test_tables_are_current_older_or_newer(applied: list[str], tables: Tables) -> None:
    assert REVISIONS.compare(applied) is tables
