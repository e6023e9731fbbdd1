"""The line that each request is in the log."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from litestar.testing import TestClient

from tests.conftest import API, SignedIn
from tests.request_lines import request_lines

pytestmark = pytest.mark.integration
Client = TestClient[Any]


def test_control_characters_in_a_path_are_escaped_in_the_log(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="app.requests"):
        client.get("/nope%1b[31mRED%0Aforged")

    assert request_lines(caplog)[0]["path"] == r"'/nope\x1b[31mRED\nforged'"


def test_each_request_is_one_log_line_without_its_query(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="app.requests"):
        answer = client.get("/nowhere?token=sesame")

    line = request_lines(caplog)[0]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/nowhere", 404)
    assert line["request_id"] == answer.headers["x-request-id"]
    assert "sesame" not in json.dumps(line)


def test_its_line_says_by_which_route_and_for_whom(
    as_user: Callable[..., SignedIn], caplog: pytest.LogCaptureFixture
) -> None:
    ada = as_user()
    with caplog.at_level(logging.INFO, logger="app.requests"):
        ada.get(f"/items/{ada.user.id}")
        ada.client.get("/nowhere")

    said = [(line["route"], line["user"]) for line in request_lines(caplog)]
    assert said == [(f"{API}/items/{{item_id}}", str(ada.user.id)), (None, None)]
