"""The console: a page that lists an application's streams, opens them, and shows what comes.

Adds three things to an application: the page, the files that it is made of, and the OpenAPI 3.2
document that it reads. Knows where they are and what a browser may do with them; what the page
does is in `console_static`, and what the document says is not known here.
"""

import html
import posixpath
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from string import Template
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from typed_sse.errors import InvalidField
from typed_sse.openapi import Document, profile_of

_PAGE = "console.html"
# Not `mimetypes`, which reads what the machine has: a browser runs no module of another type.
_MEDIA_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # No string ever becomes markup or a script; the browser sees to it.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    # To be kept, and asked for before each use: a new release has the same URLs.
    "Cache-Control": "no-cache",
}


class EventDocs:
    """A page of an application's event streams, as `/docs` is one of its other operations.

        app = FastAPI()
        app.include_router(router)
        EventDocs(app)

    It shows each stream with its parameters, its events and their schemas; it opens a stream, shows
    what comes and checks it against its schema. Nothing on it comes from another host, it runs
    under a Content-Security-Policy that it sends itself, and its URLs are relative: behind a proxy
    that strips a prefix, and in a mounted application, it needs nothing else. None of its routes is
    in the application's schema.

    Routes are looked through in the order in which they were added. So add it before whatever
    takes every path, such as static files at `/`; streams may be added later.

    Args:
        app: the application; its streams are those of its own document.
        url: the path of the page; its files are beneath it. `None` for no page.
        openapi_url: the path of the OpenAPI 3.2 document. `None` for none, and then no page either.
        title: the page's title; by default, of the application's title.

    Raises:
        InvalidField: a path does not begin with a slash or is not a plain one, the page is to be
            without a document, or the document at the path of another one.

    Limits: it asks nobody who they are, and neither do `/docs` and `/openapi.json`. Streams are
        opened where the page is, whatever the document's `servers` say.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        url: str | None = "/docs/events",
        openapi_url: str | None = "/openapi-3.2.json",
        title: str | None = None,
    ) -> None:
        self._app = app
        self._title = title
        if openapi_url is None:
            if url is not None:
                reason = "the page reads it; give its path, or url=None for no page"
                raise InvalidField("openapi_url", openapi_url, reason)
            return
        _check_path("openapi_url", openapi_url)
        if openapi_url in (app.openapi_url, url):
            raise InvalidField(
                "openapi_url", openapi_url, "another page is there; give another path"
            )
        app.add_route(openapi_url, self._document, include_in_schema=False)
        if url is None:
            return
        _check_path("url", url)
        folder, _, page = url.rpartition("/")
        self._page = Template((files("typed_sse") / "console_static" / _PAGE).read_text("utf-8"))
        self._urls = {
            "files": f"{page}/" if page else "",
            "root": f"{posixpath.relpath('/', folder or '/')}/",
            "document": posixpath.relpath(openapi_url, folder or "/"),
        }
        app.add_route(url, self._show, include_in_schema=False)
        app.routes.append(_FileRoute(f"{url.rstrip('/')}/{{file}}", _read_files()))

    async def _document(self, request: Request) -> Response:
        document = profile_of(self._app.openapi(), "spec")
        return JSONResponse(_served_at(document, self._app, request))

    async def _show(self, request: Request) -> Response:
        values = {**self._urls, "title": self._title or f"{self._app.title} - Events"}
        page = self._page.substitute({name: html.escape(text) for name, text in values.items()})
        return _File.of(page.encode(), "text/html").answer(request)


def _check_path(field: str, path: str) -> None:
    plain = path.startswith("/") and not set(path) & set("{}?#%\\") and "//" not in path
    if not plain:
        raise InvalidField(field, path, "give a path of the application, such as /docs/events")


def _served_at(document: Document, app: FastAPI, request: Request) -> Document:
    """Say where the application is to be found behind a proxy, as its own document does."""
    root_path = request.scope.get("root_path", "").rstrip("/")
    servers = document.get("servers", [])
    known = {server.get("url") for server in servers}
    if root_path and app.root_path_in_servers and root_path not in known:
        return {**document, "servers": [{"url": root_path}, *servers]}
    return document


@dataclass(frozen=True, slots=True)
class _File:
    """What is sent as it is, unless the browser has it already."""

    content: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> "_File":
        return cls(content, media_type, f'"{sha256(content).hexdigest()[:32]}"')

    def answer(self, request: Request) -> Response:
        headers = {**_HEADERS, "ETag": self.etag}
        known = request.headers.get("if-none-match", "")
        # A proxy that compresses makes the tag a weak one.
        if self.etag in {tag.strip().removeprefix("W/") for tag in known.split(",")}:
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers, media_type=self.media_type)


class _FileRoute(Route):
    """Takes the paths of files that are there, and no other beneath the page."""

    def __init__(self, path: str, known: dict[str, _File]) -> None:
        self._known = known
        super().__init__(path, self._answer, include_in_schema=False)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        if match is Match.NONE or found["path_params"]["file"] in self._known:
            return match, found
        return Match.NONE, {}

    async def _answer(self, request: Request) -> Response:
        return self._known[request.path_params["file"]].answer(request)


def _read_files() -> dict[str, _File]:
    """Return all files of the page by name: there is no way from a URL to any other."""
    read: dict[str, _File] = {}
    for file in (files("typed_sse") / "console_static").iterdir():
        media_type = _MEDIA_TYPES.get(posixpath.splitext(file.name)[1])
        if media_type is not None:
            read[file.name] = _File.of(file.read_bytes(), media_type)
    return read
