from typing import Any
from uuid import UUID

from litestar import Controller, Request, Response
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, FromQuery, MultipartBody

from app.domain.files.models import Avatar, File
from app.domain.files.schemas import AvatarRead, FileCreate, FileRead, FileSort
from app.domain.files.services import AvatarService, FileService, attachment_of, visible_to
from app.lib.access.guards import CurrentUser, authenticated, public
from app.lib.dependencies import AppSettings, Caching, FileStorage
from app.lib.downloads import ASK_AGAIN, FOR_EVER, download, is_head, picture, unchanged
from app.lib.images import MEDIA_TYPE
from app.lib.pagination import Page, PageQuery, contains
from app.lib.routing import delete, get, post, put

ANY_TYPE = "application/octet-stream"
DOWNLOAD_ANSWERS = {
    206: ResponseSpec(bytes, description="The part that was asked for.", media_type=ANY_TYPE, generate_examples=False),
    304: ResponseSpec(None, description="The client has it already."),
    307: ResponseSpec(None, description="It is in a bucket, for a minute at the URL in `Location`."),
}


class FileController(Controller):
    path = "/files"
    tags = ["files"]
    opt = {"scope": "files"}
    guards = [authenticated]

    @get()
    def list_files(
        self,
        files: FileService,
        me: CurrentUser,
        page: PageQuery,
        sort: FromQuery[FileSort] = "-created_at",
    ) -> Page[FileRead]:
        """List my files.

        Administrators see everybody's. A time without an offset is taken as UTC.
        """
        return files.page(visible_to(me), contains(page.q, File.name), page=page, sort=sort, into=FileRead)

    @post(gate="storage")
    def create_file(
        self,
        data: MultipartBody[FileCreate],
        files: FileService,
        storage: FileStorage,
        settings: AppSettings,
        me: CurrentUser,
    ) -> FileRead:
        """Upload a file.

        Its content must be what the ending of its name says.
        """
        file = files.upload(
            data.file.file,
            name=data.file.filename,
            owner_id=me.id,
            allowed=settings.allowed_extensions,
            storage=storage,
        )
        return FileRead.of(file)

    @get("/{file_id:uuid}")
    def get_file(self, file_id: FromPath[UUID], files: FileService, me: CurrentUser) -> FileRead:
        """Show what is known of a file."""
        return FileRead.of(files.get_visible(file_id, me))

    @get("/{file_id:uuid}/content", gate="storage", uncompressed=True, media_type=ANY_TYPE, responses=DOWNLOAD_ANSWERS)
    def get_file_content(
        self,
        file_id: FromPath[UUID],
        request: Request[Any, Any, Any],
        files: FileService,
        storage: FileStorage,
        me: CurrentUser,
    ) -> Response[bytes]:
        """Download a file.

        Understands `If-None-Match`, `Range` and `If-Range`. Where files are kept in a bucket, the answer is a
        redirection (307) to a URL that is good for a minute.
        """
        file = files.get_visible(file_id, me)
        return download(attachment_of(file), storage, request.headers, is_head=is_head(request.scope))

    @delete("/{file_id:uuid}")
    def delete_file(self, file_id: FromPath[UUID], files: FileService, me: CurrentUser) -> None:
        """Delete a file."""
        files.remove(files.get_visible(file_id, me))


class MyAvatarController(Controller):
    path = "/users/me/avatar"
    tags = ["users"]
    guards = [authenticated]

    @get(gate="storage", uncompressed=True, media_type=MEDIA_TYPE)
    def get_my_avatar(
        self,
        request: Request[Any, Any, Any],
        avatars: AvatarService,
        storage: FileStorage,
        cache: Caching,
        me: CurrentUser,
    ) -> Response[bytes]:
        """Show my picture.

        Understands `If-None-Match`.
        """
        avatar = avatars.get_one(Avatar.user_id == me.id)
        tag = f'"{avatar.id}"'
        if known := unchanged(tag, request.headers):
            return known
        content = avatars.picture(avatar.id, storage=storage, cache=cache)
        return picture(content, media_type=MEDIA_TYPE, cache_control=ASK_AGAIN, tag=tag)

    @put(gate="pictures")
    def replace_my_avatar(
        self,
        data: MultipartBody[FileCreate],
        avatars: AvatarService,
        storage: FileStorage,
        settings: AppSettings,
        me: CurrentUser,
    ) -> AvatarRead:
        """Make a picture mine: PNG, JPEG, WebP or GIF, of which the middle is kept."""
        public_url = f"{settings.public_url}{settings.api_v1_prefix}{AvatarController.path}"
        url = avatars.replace(data.file.file, user_id=me.id, public_url=public_url, storage=storage)
        return AvatarRead(avatar_url=url)

    @delete()
    def delete_my_avatar(self, avatars: AvatarService, me: CurrentUser) -> None:
        """Remove my picture."""
        avatars.remove_of(me.id)


class AvatarController(Controller):
    path = "/avatars"
    tags = ["users"]
    guards = [public]

    @get("/{avatar_id:uuid}", gate="storage", uncompressed=True, media_type=MEDIA_TYPE)
    def get_avatar(
        self, avatar_id: FromPath[UUID], avatars: AvatarService, storage: FileStorage, cache: Caching
    ) -> Response[bytes]:
        """Show the picture of a user, as `avatar_url` names it.

        A new picture has a new address, so browsers may keep this one for ever.
        """
        content = avatars.picture(avatar_id, storage=storage, cache=cache)
        return picture(content, media_type=MEDIA_TYPE, cache_control=FOR_EVER)
