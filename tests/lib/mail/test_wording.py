from datetime import UTC, date, datetime

import pytest

from app.lib.mail.wording import day_of, time_of

pytestmark = pytest.mark.unit


def test_days_and_times_are_written_in_words() -> None:
    assert day_of(date(2026, 11, 5)) == "5 November 2026"
    assert time_of(datetime(2026, 11, 5, 9, 3, 7, tzinfo=UTC)) == "5 November 2026 at 09:03 (UTC)"
