import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from app.lib.settings import Settings
from app.server.logs import configure_logging

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
