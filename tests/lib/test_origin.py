from threading import Thread
from uuid import uuid4

import pytest

from app.lib.origin import Origin, current_origin, originating

pytestmark = pytest.mark.unit


def test_without_another_it_is_the_command_line() -> None:
    assert current_origin() == Origin("command line")


def test_what_happens_inside_comes_from_there_and_what_happens_after_it_does_not() -> None:
    outer, inner = Origin("GET /", actor_id=uuid4()), Origin("job x")

    with originating(outer):
        with originating(inner):
            assert current_origin() == inner
        assert current_origin() == outer
    assert current_origin() == Origin()


def test_it_is_not_that_of_another_thread() -> None:
    seen: list[Origin] = []

    with originating(Origin("GET /")):
        thread = Thread(target=lambda: seen.append(current_origin()))
        thread.start()
        thread.join()

    assert seen == [Origin()]
