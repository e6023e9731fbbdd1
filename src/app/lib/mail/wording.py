"""Days and times as all mails write them."""

from datetime import date, datetime


def day_of(time: date) -> str:
    """`25 November 2026`."""
    return f"{time.day} {time:%B %Y}"


def time_of(time: datetime) -> str:
    """`25 November 2026 at 18:03 (UTC)`."""
    return f"{day_of(time)} at {time:%H:%M} (UTC)"
