from typing import Annotated
from uuid import UUID

from litestar import Controller
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from app.domain.access.models import Permission
from app.domain.posts.models import Post
from app.domain.posts.schemas import PostCreate, PostRead, PostSort, PostUpdate
from app.domain.posts.services import PostService
from app.lib.access.control import Access
from app.lib.access.guards import CurrentUser, requires
from app.lib.pagination import Page, PageQuery, contains, equals
from app.lib.routing import delete, get, patch, post


class PostController(Controller):
    path = "/posts"
    tags = ["posts"]
    opt = {"scope": "posts"}

    @get(guards=[requires(Permission.POSTS_READ)])
    def list_posts(
        self,
        posts: PostService,
        me: CurrentUser,
        access: Access,
        page: PageQuery,
        sort: FromQuery[PostSort] = "-created_at",
        published: Annotated[bool | None, QueryParameter(description="Only those, or only drafts.")] = None,
        owner_id: Annotated[UUID | None, QueryParameter(description="Only those by this author.")] = None,
    ) -> Page[PostRead]:
        """List posts.

        Drafts are seen by their authors and by editors only.
        """
        visible = access.where(me, Permission.POSTS_READ, Post)
        wanted = (equals(published, Post.published), equals(owner_id, Post.owner_id))
        text = contains(page.q, Post.title, Post.body)
        return posts.page(visible, *wanted, text, page=page, sort=sort, into=PostRead)

    @post(guards=[requires(Permission.POSTS_CREATE)])
    def create_post(self, data: JSONBody[PostCreate], posts: PostService, me: CurrentUser, access: Access) -> PostRead:
        """Write a post. It is a draft until it is published."""
        post = Post(owner_id=me.id, title=data.title, body=data.body, published=data.published)
        return PostRead.of(posts.write(post, me, access))

    @get("/{post_id:uuid}", guards=[requires(Permission.POSTS_READ)])
    def get_post(self, post_id: FromPath[UUID], posts: PostService, me: CurrentUser, access: Access) -> PostRead:
        """Show a post."""
        return PostRead.of(posts.get_visible(post_id, me, access))

    @patch("/{post_id:uuid}", guards=[requires(Permission.POSTS_UPDATE)])
    def update_post(
        self,
        post_id: FromPath[UUID],
        data: JSONBody[PostUpdate],
        posts: PostService,
        me: CurrentUser,
        access: Access,
    ) -> PostRead:
        """Change a post, publish it, or make it a draft again. Fields that are left out stay as they are."""
        post = posts.get_for(Permission.POSTS_UPDATE, post_id, me, access)
        return PostRead.of(posts.change(post, data, me, access))

    @delete("/{post_id:uuid}", guards=[requires(Permission.POSTS_DELETE)])
    def delete_post(self, post_id: FromPath[UUID], posts: PostService, me: CurrentUser, access: Access) -> None:
        """Delete a post."""
        posts.remove(posts.get_for(Permission.POSTS_DELETE, post_id, me, access))
