from uuid import UUID

import msgspec
from sqlalchemy import or_

from app.domain.access.models import Permission
from app.domain.posts.models import Post
from app.lib.access.control import AccessControl
from app.lib.access.guards import Principal
from app.lib.db.service import Repository, Service
from app.lib.errors import NotFoundError


class PostService(Service[Post]):
    """Every method that takes `access` asks it, and raises PermissionDeniedError."""

    class Repo(Repository[Post]):
        model_type = Post

    repository_type = Repo

    def get_visible(self, post_id: UUID, user: Principal, access: AccessControl) -> Post:
        """Raises NotFoundError when there is none, or it is not theirs to see."""
        return self.get_one(Post.id == post_id, access.where(user, Permission.POSTS_READ, Post))

    def get_for(self, permission: Permission, post_id: UUID, user: Principal, access: AccessControl) -> Post:
        """One to which they may do this, which nobody else changes meanwhile.

        Raises NotFoundError when they may not even see it. They may when they may do this to it, unless reading it is
        denied to them.
        """
        is_known = or_(access.where(user, Permission.POSTS_READ, Post), access.where(user, permission, Post))
        post = self.lock(Post.id == post_id, is_known, access.unless_denied(user, Permission.POSTS_READ, Post))
        if post is None:
            raise NotFoundError
        access.check(user, permission, post)
        return post

    def write(self, post: Post, user: Principal, access: AccessControl) -> Post:
        access.check(user, Permission.POSTS_CREATE, post)
        return self.create(post)

    def change(self, post: Post, changes: msgspec.Struct, user: Principal, access: AccessControl) -> Post:
        """They may do it to the post as it is, and must be allowed to do it to what becomes of it: who may only change
        drafts cannot publish one."""
        access.check(user, Permission.POSTS_UPDATE, self.apply(post, changes))
        return post
