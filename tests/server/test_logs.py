import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from granian.log import LogLevels
from granian.log import configure_logging as configure_server

from app.lib.settings import Settings
from app.server.logs import configure_logging
from app.server.serving.supervisor import OUR_FORMAT

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def restore(settings: Settings) -> Iterator[None]:
    yield
    configure_logging(settings)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_local_variables(
    log_format: str, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(settings.model_copy(update={"log_format": log_format}))
    secret = "sesame".upper()

    try:
        int("no number")
    except ValueError:
        logging.getLogger("app").exception("it failed")

    written = capsys.readouterr().err
    assert "it failed" in written
    assert "ValueError" in written
    assert secret not in written


def test_a_warning_is_a_line_like_any_other_and_those_about_pictures_are_none(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure_logging(settings.model_copy(update={"log_format": "json"}))
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)  # pytest has its own way with them, which comes first
        warnings.warn_explicit("old", UserWarning, "a.py", 1, module="app.lib")
        warnings.warn_explicit("Corrupt EXIF data", UserWarning, "b.py", 1, module="PIL.TiffImagePlugin")
        logging.captureWarnings(capture=False)

    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["logger"] == "py.warnings"


def test_json_is_one_object_a_line(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(settings.model_copy(update={"log_format": "json"}))

    logging.getLogger("app").warning("two\nlines of %s", "text")

    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line) | {"timestamp": ""} == {
        "event": "two\nlines of text",
        "level": "warning",
        "logger": "app",
        "timestamp": "",
    }


@pytest.mark.parametrize(
    ("given", "log_format"), [({}, "console"), ({"log_format": "json"}, "json")], ids=["default", "chosen"]
)
def test_outside_production_lines_are_for_people(given: dict[str, Any], log_format: str) -> None:
    assert Settings(_env_file=None, secret_key="x", **given).log_format == log_format


def test_a_message_is_one_line_and_paints_nothing(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(settings.model_copy(update={"log_format": "console"}))

    logging.getLogger("somebody").error("first\nsecond\x1b[31m")

    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "log_format"), [({}, "json"), ({"log_format": "console"}, "console")], ids=["default", "chosen"]
)
def test_in_production_lines_are_for_machines(given: dict[str, Any], log_format: str) -> None:
    assert Settings(_env_file=None, app_env="production", **given).log_format == log_format


def test_the_server_writes_lines_as_the_application_does(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    server = logging.getLogger("_granian")
    configure_logging(settings.model_copy(update={"log_format": "json"}))
    configure_server(LogLevels.info, OUR_FORMAT)

    server.error("Unexpected exit from worker-1")  # of its main process, which never has an application
    configure_logging(settings.model_copy(update={"log_format": "json"}))
    server.error("Application callable raised an exception")  # of a worker process, after it has made one

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"][:10], line["level"], line["logger"]) for line in lines] == [
        ("Unexpected", "error", "_granian"),
        ("Applicatio", "error", "_granian"),
    ]
