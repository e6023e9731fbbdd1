from uuid import UUID, uuid4

import pytest

from app.domain.items.models import Item
from app.domain.posts.models import Post
from app.lib.access.resources import (
    UnusableAttributeError,
    attribute_types,
    attributes_of,
    check_attributes,
    columns_of,
)

pytestmark = pytest.mark.unit


def test_rules_know_the_attributes_that_a_model_names_and_the_id() -> None:
    assert attribute_types("posts") == {"id": UUID, "owner_id": UUID, "published": bool}


@pytest.mark.parametrize("resource", ["items", "users", "audit", "", "__class__"])
def test_a_model_that_names_none_has_no_objects_and_neither_has_what_is_no_table(resource: str) -> None:
    assert attribute_types(resource) == {}


def test_rules_see_plain_values_of_a_row_in_the_order_of_their_types() -> None:
    post = Post(id=uuid4(), owner_id=uuid4(), title="Tea", body="", published=True)

    assert attributes_of(post) == {"id": post.id, "owner_id": post.owner_id, "published": True}
    assert list(attributes_of(post)) == list(attribute_types("posts")) == list(columns_of(Post))


def test_of_other_rows_they_see_the_id() -> None:
    item = Item(id=uuid4(), owner_id=uuid4(), title="Buy milk")

    assert attributes_of(item) == {"id": item.id}
    assert list(columns_of(Item)) == ["id"]


def test_every_model_names_attributes_that_rules_can_compare() -> None:
    check_attributes()


@pytest.mark.parametrize(
    ("name", "said"), [("created_at", "rules do not know datetime"), ("publishd", "there is no such column")]
)
def test_an_attribute_that_is_none_or_that_rules_cannot_compare_stops_the_start(
    name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Post, "access_attributes", ("owner_id", name))

    with pytest.raises(UnusableAttributeError, match=rf"Post\.{name}: {said}"):
        check_attributes()
