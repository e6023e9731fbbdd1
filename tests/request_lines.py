"""What the log says of requests."""

from typing import Any

import pytest


def request_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.msg for record in caplog.records if record.name == "app.requests" and isinstance(record.msg, dict)]
