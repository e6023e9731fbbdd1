"""The files of a page that is part of the server: few, small, and held in memory."""

from collections.abc import Mapping

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from app.lib.errors import NotFoundError


def static_files(files: Mapping[str, tuple[str, bytes]]) -> HTTPRouteHandler:
    """`static/NAME` below the router that it is given to. `files`: media type and content by name."""

    @get("/static/{name:str}")
    async def show_file(name: FromPath[str]) -> Response[bytes]:
        if name not in files:
            raise NotFoundError
        media_type, content = files[name]
        return Response(content, media_type=media_type)

    return show_file
